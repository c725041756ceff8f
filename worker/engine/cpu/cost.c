// Design notes: small steps teach the fixed part, large ones the part per token; each new measurement moves the estimate by
// an eighth, so that a noisy neighbour doesn't. Attended positions cost what their share of the arithmetic says.
#include "worker/engine/cpu/cost.h"

static const double SMALL_TOKENS = 4, WEIGHT = 0.125, GUESS_MACS_PER_US = 2e4;

void cost_init(struct cost *c, double token_macs, double attended_macs) {
    *c = (struct cost){.fixed_us = 50, .token_us = token_macs / GUESS_MACS_PER_US};
    c->attended_us = attended_macs / GUESS_MACS_PER_US;
}

static double estimate(const struct cost *c, const struct engine_load *l) {
    return c->fixed_us + c->token_us * l->tokens + c->attended_us * (double)l->attended;
}

void cost_learn(struct cost *c, const struct engine_load *l, double took_us) {
    if (l->tokens == 0) return;
    if (l->tokens <= SMALL_TOKENS) {
        double fixed = took_us - (estimate(c, l) - c->fixed_us);
        if (fixed < took_us / 10) fixed = took_us / 10;
        c->fixed_us += WEIGHT * (fixed - c->fixed_us);
        return;
    }
    double scale = (took_us - c->fixed_us) / (estimate(c, l) - c->fixed_us);
    if (scale < 0.1) scale = 0.1;
    scale = 1 + WEIGHT * (scale - 1);
    c->token_us *= scale;
    c->attended_us *= scale;
}

uint32_t cost_us(const struct cost *c, const struct engine_load *load) {
    double us = load->tokens == 0 ? 0 : estimate(c, load);
    return us > 4e9 ? UINT32_MAX : (uint32_t)us;
}
