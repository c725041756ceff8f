#include "worker/core/pace.h"

#define QUANTILE  0.98
#define GAIN      0.05
#define SLACK_MAX 3.0
#define FULL      0.85 // of the target
#define MARGIN    0.96 // of the target: the clock of a step stops before its tokens are on their way

void pace_init(struct pace *p, uint32_t target_us, uint32_t rows_max, uint32_t tokens_max) {
    *p = (struct pace){.target_us = target_us, .slack = 1};
    step_model_init(&p->model, rows_max, tokens_max);
}

uint32_t pace_prompt_tokens(const struct pace *p, uint32_t decode_rows, uint32_t batches, uint32_t most) {
    if (p->target_us == 0 || decode_rows == 0) return most;
    double decode_us = (double)step_model_decode_us(&p->model, decode_rows * batches);
    double left = p->target_us * MARGIN / p->slack - decode_us;
    if (decode_us > p->target_us * FULL) left = decode_us; // nobody is to wait for what is out of reach
    double tokens = left * 1e-6 * (double)step_model_prefill_rate(&p->model) / batches;
    if (!(tokens > PACE_LEAST_TOKENS)) tokens = PACE_LEAST_TOKENS;
    return tokens < most ? (uint32_t)tokens : most;
}

// Only steps that a target says something about, and not those that are too short to be measured well.
static void follow(struct pace *p, uint32_t decode_rows, uint32_t prefill_tokens, uint32_t took_us) {
    double expected = (double)step_model_decode_us(&p->model, decode_rows) +
                      1e6 * prefill_tokens / (double)step_model_prefill_rate(&p->model);
    if (p->target_us == 0 || decode_rows == 0 || expected * 4 < p->target_us) return;
    p->slack += took_us > expected * p->slack ? GAIN * QUANTILE : GAIN * (QUANTILE - 1);
    if (p->slack < 1) p->slack = 1;
    if (p->slack > SLACK_MAX) p->slack = SLACK_MAX;
}

void pace_learn(struct pace *p, uint32_t decode_rows, uint32_t prefill_tokens, uint32_t took_us) {
    follow(p, decode_rows, prefill_tokens, took_us);
    step_model_learn(&p->model, decode_rows, prefill_tokens, took_us);
}
