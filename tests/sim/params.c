#include "tests/sim/params.h"

#include "common/base/message.h"

static us_t seconds(double s) { return (us_t)(s * 1e6); }

static uint32_t pick(struct rng *r, uint32_t lo, uint32_t hi) { // log-uniform
    return (uint32_t)(rng_log(r, lo, hi + 0.999));
}

static void draw_network(struct params *p, struct rng *r) {
    for (uint32_t a = 0; a < SIM_REGIONS_MAX; a++) {
        for (uint32_t b = 0; b <= a; b++) {
            us_t us = a == b ? rng_range(r, 200, 1000) : rng_range(r, 40000, 80000);
            p->latency_us[a][b] = p->latency_us[b][a] = us;
        }
    }
    p->jitter = rng_log(r, 0.01, 0.5);
    p->loop_delay_us = rng_chance(r, 0.5) ? 0 : (us_t)pick(r, 10, 2000);
}

static void draw_faults(struct params *p, const struct sim_options *o, struct rng *r) {
    for (uint32_t bit = 1; bit <= FAULT_ALL; bit <<= 1) {
        if ((o->faults & bit) && rng_chance(r, 0.65)) p->faults |= bit;
    }
    p->silent_close = rng_chance(r, 0.5) ? 0.3 : 0.05;
    double storm = rng_chance(r, 0.3) ? rng_log(r, 0.05, 0.5) : 1; // of the time between faults
    if (p->faults & FAULT_KILL) {
        p->kill_s = rng_log(r, 15, 900) * storm;
        p->down_max_s = rng_log(r, 1, 120);
        p->drain = rng_chance(r, 0.6) ? 0.4 : 0;
        p->notice_s = p->drain > 0 ? rng_log(r, 10, 300) * storm : 0;
        p->drain_max_ms = pick(r, 50, rng_chance(r, 0.5) ? 1000 : 20000);
        p->engine_fails = rng_chance(r, 0.5) ? 0.3 : 0;
    }
    if (p->faults & FAULT_LOSE) {
        p->lose = rng_chance(r, 0.7) ? rng_log(r, 1e-5, rng_chance(r, 0.1) ? 0.3 : 0.03) : 0;
        if (rng_chance(r, 0.5)) {
            p->lose_kind = rng_range(r, MSG_HELLO, MSG_CANCEL);
            p->lose_kind_p = rng_log(r, 0.01, 0.5);
            p->die_of_it = p->faults & FAULT_KILL && rng_chance(r, 0.5) ? rng_log(r, 0.001, 0.05) : 0;
        }
        p->reset_s = rng_chance(r, 0.7) || p->lose == 0 ? rng_log(r, 10, 600) * storm : 0;
    }
    if (p->faults & FAULT_LATE) {
        p->stall_s = rng_chance(r, 0.7) ? rng_log(r, 3, 300) * storm : 0;
        p->stall_max_s = rng_log(r, 0.05, 10);
        p->pause_s = rng_chance(r, 0.7) || p->stall_s == 0 ? rng_log(r, 10, 600) * storm : 0;
        p->pause_max_s = rng_log(r, 0.05, 10);
    }
    if (p->faults & FAULT_DOUBLE) p->twice = rng_log(r, 1e-4, 0.1);
    if (p->faults & FAULT_STORE) {
        p->store_torn = rng_log(r, 0.1, 0.5);
        p->store_lost = rng_log(r, 0.1, 0.5);
        p->store_flip = rng_log(r, 0.1, 0.5);
        p->store_full = rng_log(r, 0.1, 0.5);
        p->store_slow = rng_log(r, 0.1, 0.5);
        p->store_slow_max_s = rng_log(r, 0.05, 30);
    }
    if (p->faults & FAULT_GROUP) {
        p->group_s = rng_log(r, 20, 900) * storm;
        p->reform_max_s = rng_log(r, 0.05, 5);
    }
    if (p->faults & FAULT_ODD) {
        p->router_odd = (uint32_t)rng_u64(r) & (uint32_t)rng_u64(r); // each with a chance of a quarter
        p->worker_odd = (uint32_t)rng_u64(r) & (uint32_t)rng_u64(r);
        p->odd_one_in = pick(r, 10, 1000);
    }
    if (p->faults & FAULT_PARTITION) {
        p->partition_s = rng_log(r, 20, 600) * storm;
        p->partition_max_s = rng_log(r, 0.2, 60);
    }
}

static void draw_cores(struct params *p, struct rng *r) {
    bool tiny = rng_chance(r, 0.4);
    p->timers = (struct link_timers){100, 300, 1000};
    if (rng_chance(r, 0.3)) {
        uint32_t beat = pick(r, 50, 400);
        p->timers = (struct link_timers){beat, beat * rng_range(r, 3, 5), beat * rng_range(r, 6, 20)};
    }
    p->status_full_ms = rng_chance(r, 0.7) ? 1000 : pick(r, 200, 3000);
    p->sessions_max = tiny && rng_chance(r, 0.5) ? pick(r, 4, 32) : 10000;
    p->queue_max = tiny ? pick(r, 1, 8) : pick(r, 8, 1000);
    p->held_bytes_max = tiny ? pick(r, 20000, 100000) : 0;
    p->queue_tokens_max = tiny ? pick(r, 100, 4000) : 1 << 20;
    p->deadline_default_ms = pick(r, 20000, 120000);
    p->spill_after_ms = rng_chance(r, 0.5) ? pick(r, 50, 5000) : 0;
    for (uint32_t i = 0; i < SIM_REGIONS_MAX; i++) p->weights[i] = rng_chance(r, 0.1) ? 0 : (float)rng_log(r, 1, 10);

    p->max_seqs = tiny ? pick(r, 1, 4) : pick(r, 2, 16);
    p->block_tokens = pick(r, 1, 32);
    p->max_context = rng_chance(r, 0.8) ? 640 : pick(r, 100, 640);
    uint32_t one = (p->max_context + p->block_tokens - 1) / p->block_tokens; // blocks of the longest sequence
    if (tiny && rng_chance(r, 0.1)) one = one / 2 + 1;                       // the memory holds less than the context
    p->n_blocks = one + (tiny ? pick(r, 1, one + 1) - 1 : one * pick(r, 1, p->max_seqs));
    p->step_tokens = p->max_seqs + (tiny ? pick(r, 1, 16) : pick(r, 16, 512)) - 1;
    p->chunk_tokens = rng_chance(r, 0.3) ? pick(r, 1, p->step_tokens) : p->step_tokens;
    p->plans_in_flight = rng_range(r, 1, 3);
    p->spare_slots = p->plans_in_flight > 1 ? p->max_seqs : 0; // as a worker does
    p->worker_queue_max = tiny ? pick(r, 1, 8) : pick(r, 8, 256);
    p->orphan_tokens = rng_chance(r, 0.5) ? 256 : pick(r, 1, 64);
    p->grace_ms = pick(r, 500, 30000);
    p->lease_ms = pick(r, 1000, 60000);
    p->n_stores = rng_chance(r, 0.8) ? rng_range(r, 1, 2) : 0;
}

static void draw_engine(struct params *p, struct rng *r) {
    p->load_max_us = seconds(rng_log(r, 0.1, 20));
    p->prepare_max_us = (us_t)pick(r, 100, rng_chance(r, 0.2) ? 1000000 : 20000);
    p->shell_checks = rng_chance(r, 0.5);
    p->step_us = (us_t)pick(r, 3000, 30000);
    p->prefill_rate = rng_log(r, 1000, 50000);
    p->one_slow = rng_chance(r, 0.3);
}

double params_capacity(const struct params *p, uint32_t n_workers) {
    double prompt = 90, answer = p->stop_one_in && p->stop_one_in < 60 ? p->stop_one_in : 60;
    uint32_t chunk = p->chunk_tokens < 90 ? p->chunk_tokens : 90;
    double seqs = p->max_seqs, fit = p->n_blocks * (double)p->block_tokens / (prompt + answer);
    if (fit < seqs) seqs = fit < 1 ? 1 : fit;
    double prefill_s = prompt / chunk * (double)p->step_us * 1e-6 + prompt / p->prefill_rate;
    double serial_s =
        prompt / p->prefill_rate + prompt / p->step_tokens * (double)p->step_us * 1e-6; // not shared with others
    double service_s = prefill_s + answer * (double)p->step_us * 1e-6;
    double each = seqs / service_s, bound = 1 / serial_s;
    return n_workers * (each < bound ? each : bound);
}

uint32_t params_context(const struct params *p) {
    uint64_t held = (uint64_t)p->n_blocks * p->block_tokens;
    return held < p->max_context ? (uint32_t)held : p->max_context;
}

us_t params_service_us(const struct params *p, uint32_t prompt, uint32_t answer) {
    uint32_t chunk = p->chunk_tokens < p->step_tokens ? p->chunk_tokens : p->step_tokens;
    us_t steps = (prompt + chunk - 1) / chunk + answer;
    us_t work = steps * p->step_us + seconds((prompt + answer) / p->prefill_rate);
    return work * (p->one_slow ? 4 : 1) + p->prepare_max_us + 4 * p->latency_us[0][1] + 8 * p->loop_delay_us;
}

static void draw_workload(struct params *p, const struct sim_options *o, struct rng *r) {
    p->n_models = o->workers >= 4 && rng_chance(r, 0.25) ? 2 : 1;
    p->n_deployments = p->n_models == 1 && o->workers >= 4 && rng_chance(r, 0.2) ? 2 : 1;
    p->stop_one_in = rng_chance(r, 0.3) ? 0 : pick(r, 20, 400);
    p->prefix_share = rng_chance(r, 0.8) ? 0.5 : 0;
    p->prefix_families = pick(r, 1, 16);
    p->cancel = 0.08, p->keep = 0.2, p->pin = 0.03, p->nan = 0.003, p->alias = 0.2, p->query = 0.02;
    p->salted = !o->unsalted && rng_chance(r, 0.4);
    p->returns = p->salted ? 0 : 0.6;
    p->breaks = p->faults & FAULT_LOSE ? rng_log(r, 0.02, 0.5) : 0;
    p->poison = p->faults & FAULT_KILL ? rng_log(r, 0.0005, 0.01) : 0;
    double most = params_capacity(p, o->workers) * (rng_chance(r, 0.2) ? rng_log(r, 0.5, 2) : 0.5);
    p->rate = o->rate < most ? o->rate : most;
    if (rng_chance(r, 0.4)) {
        p->burst_s = rng_log(r, 20, 200);
        p->burst_max = pick(r, 4, 40);
    }
}

void params_draw(struct params *p, const struct sim_options *o, uint64_t seed) {
    struct rng r = rng_make(seed, 1);
    *p = (struct params){0};
    us_t end = seconds(o->hours * 3600), liveness = end / 5 < seconds(300) ? end / 5 : seconds(300);
    p->arrivals_end = end;
    p->safety_end = end - liveness;
    draw_network(p, &r);
    draw_faults(p, o, &r);
    draw_cores(p, &r);
    draw_engine(p, &r);
    draw_workload(p, o, &r);
    p->prefix_cache = rng_chance(&r, 0.7)   ? PREFIX_CACHE_SHARED
                      : rng_chance(&r, 0.6) ? PREFIX_CACHE_TENANT
                                            : PREFIX_CACHE_OFF;
    p->siblings = rng_chance(&r, 0.5) ? 0.1 : 0;
    p->micro_batches = rng_chance(&r, 0.7) ? 1 : rng_range(&r, 2, 4);
}
