// Design notes. Each step minimises Σ λ^age·(t − x·θ)² + ρ·|θ − θ_last|²: where the steps say nothing about a term (a day of
// decoding without a prompt), θ stays where it was instead of drifting off, which is what plain recursive least squares with
// forgetting does (the books call it wind-up).
#include "worker/core/step_model.h"

#include "common/base/limits.h"

#include <string.h>

#define FORGETTING 0.98   // λ: about the last 50 steps count
#define STAYING    0.1    // ρ
#define OUTLIER    8.0    // a step longer than this times the expected one counts as that: a stopped process is no news
#define FLOOR_US   1.0    // the least that a term of a full step may cost
#define FIRST_RATE 1000.0 // tokens per second, before any guess

void step_model_init(struct step_model *m, uint32_t rows_max, uint32_t tokens_max) {
    *m = (struct step_model){.scale = {1, rows_max ? rows_max : 1, tokens_max ? tokens_max : 1}};
    step_model_guess(m, FIRST_RATE, FIRST_RATE, 0);
}

void step_model_guess(struct step_model *m, float prefill_rate, float decode_rate, uint32_t lone_us) {
    if (decode_rate > 0) m->theta[1] = 1e6 * m->scale[1] / (double)decode_rate;
    if (decode_rate > 0 && lone_us > 0 && m->scale[1] > 1) { // t(1 row) = θ0 + θ1 / scale, t(all) = θ0 + θ1
        double all = m->theta[1], lone = lone_us < all ? lone_us : all;
        m->theta[0] = (lone * m->scale[1] - all) / (m->scale[1] - 1);
        if (!(m->theta[0] > FLOOR_US)) m->theta[0] = FLOOR_US;
        m->theta[1] = all - m->theta[0] > FLOOR_US ? all - m->theta[0] : FLOOR_US;
    }
    if (prefill_rate > 0) m->theta[2] = 1e6 * m->scale[2] / (double)prefill_rate;
    memset(m->moments, 0, sizeof m->moments);
    memset(m->targets, 0, sizeof m->targets);
}

// Solves a·x = y for a symmetric positive definite a (ρ makes it so) by elimination without pivoting.
static void solve(double a[STEP_MODEL_TERMS][STEP_MODEL_TERMS], double y[STEP_MODEL_TERMS], double x[STEP_MODEL_TERMS]) {
    for (int i = 0; i < STEP_MODEL_TERMS; i++) {
        for (int r = i + 1; r < STEP_MODEL_TERMS; r++) {
            double f = a[r][i] / a[i][i];
            for (int c = i; c < STEP_MODEL_TERMS; c++) a[r][c] -= f * a[i][c];
            y[r] -= f * y[i];
        }
    }
    for (int i = STEP_MODEL_TERMS - 1; i >= 0; i--) {
        x[i] = y[i];
        for (int c = i + 1; c < STEP_MODEL_TERMS; c++) x[i] -= a[i][c] * x[c];
        x[i] /= a[i][i];
    }
}

void step_model_learn(struct step_model *m, uint32_t decode_rows, uint32_t prefill_tokens, uint32_t took_us) {
    double x[STEP_MODEL_TERMS] = {1, decode_rows / m->scale[1], prefill_tokens / m->scale[2]};
    double expected = 0, t = took_us;
    for (int i = 0; i < STEP_MODEL_TERMS; i++) expected += x[i] * m->theta[i];
    if (t > OUTLIER * expected + 1000) t = OUTLIER * expected + 1000;
    double a[STEP_MODEL_TERMS][STEP_MODEL_TERMS], y[STEP_MODEL_TERMS];
    for (int i = 0; i < STEP_MODEL_TERMS; i++) {
        for (int j = 0; j < STEP_MODEL_TERMS; j++) {
            m->moments[i][j] = FORGETTING * m->moments[i][j] + x[i] * x[j];
            a[i][j] = m->moments[i][j] + (i == j ? STAYING : 0);
        }
        m->targets[i] = FORGETTING * m->targets[i] + x[i] * t;
        y[i] = m->targets[i] + STAYING * m->theta[i];
    }
    solve(a, y, m->theta);
    for (int i = 0; i < STEP_MODEL_TERMS; i++)
        if (!(m->theta[i] > FLOOR_US)) m->theta[i] = FLOOR_US;
}

static float rate(double tokens, double us) {
    double r = 1e6 * tokens / us;
    return r < (double)RATE_MAX ? (float)r : RATE_MAX;
}

float step_model_prefill_rate(const struct step_model *m) { return rate(m->scale[2], m->theta[2]); }
float step_model_decode_us(const struct step_model *m, uint32_t rows) {
    return (float)(m->theta[0] + m->theta[1] * rows / m->scale[1]);
}
float step_model_decode_rate(const struct step_model *m) { return rate(m->scale[1], m->theta[0] + m->theta[1]); }
