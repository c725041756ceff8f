// Adaptive batching on mock costs: a load that jumps tenfold, in virtual time. A step costs a + b·answers + c·prompt tokens;
// the core is told what its steps took and nothing else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/base/hash.h"
#include "tests/unit/worker/core/world.h"
#include "worker/core/pace.h"

enum {
    TURN_MS = 200,
    STEPS = 4096,
    TARGET_US = 50000
}; // a turn is longer than any step, so that the core believes its time

struct costs {
    uint32_t step_us, row_us, token_us, noise_percent;
};

struct load {
    struct world *w;
    struct costs costs;
    double clock_us, next_us; // of the next arrival
    uint32_t prompt, answer, n_steps;
    struct {
        uint32_t us, rows;
    } steps[STEPS];
    uint64_t tokens; // computed: prompts and answers
};

static struct load *load_create(const struct costs *costs, uint32_t inter_token_ms, uint32_t step_tokens, uint64_t seed) {
    struct world_options o = world_defaults();
    o.seed = seed;
    o.max_seqs = 32;
    o.n_blocks = 4096;
    o.step_tokens = o.chunk_tokens = step_tokens;
    o.plans_in_flight = 1;
    o.queue_max = 4000;
    o.grace_ms = 1 << 30;
    o.inter_token_ms = inter_token_ms;
    o.unchecked = true; // for speed; others check
    struct load *l = calloc(1, sizeof *l);
    l->w = world_create(&o);
    l->costs = *costs;
    l->prompt = 400;
    return l;
}

static void load_destroy(struct load *l) {
    world_discard(l->w);
    free(l);
}

// One step, after those who have come until now have asked. per_s: arrivals.
static void load_step(struct load *l, double per_s) {
    struct world *w = l->w;
    while (l->next_us <= l->clock_us && w->n_streams < WORLD_STREAMS) {
        world_ask(w, world_stream(w, l->prompt, 40), 1);
        l->next_us += 1e6 / per_s;
    }
    uint32_t noise = l->costs.noise_percent ? world_random(w, 2 * l->costs.noise_percent + 1) : 0;
    double factor = 1 + ((double)noise - l->costs.noise_percent) / 100;
    w->step_us = (uint32_t)(l->costs.step_us * factor);
    w->row_us = (uint32_t)(l->costs.row_us * factor);
    w->token_us = (uint32_t)(l->costs.token_us * factor);
    w->last_work = (struct fake_work){0};
    world_turn(w, TURN_MS);
    struct fake_work *work = &w->last_work;
    uint32_t us = work->rows ? w->step_us + w->row_us * work->decode_rows + w->token_us * work->prefill_tokens : 1000;
    l->clock_us += us;
    l->tokens += work->tokens;
    if (l->n_steps == STEPS) return;
    l->steps[l->n_steps].us = us;
    l->steps[l->n_steps++].rows = work->decode_rows;
}

// Of the tokens that answers got in the steps [from, n_steps): the time that 99 % of them took no longer than.
static uint32_t p99_us(const struct load *l, uint32_t from) {
    uint64_t rows = 0, above = 0;
    for (uint32_t i = from; i < l->n_steps; i++) rows += l->steps[i].rows;
    for (uint32_t us = 200000;; us -= 100, above = 0) {
        for (uint32_t i = from; i < l->n_steps; i++) above += l->steps[i].us > us - 100 ? l->steps[i].rows : 0;
        if (above * 100 > rows || us <= 100) return us;
    }
}

static const struct costs some_costs[] = {{5000, 300, 60, 0}, {1000, 100, 200, 5}, {20000, 200, 30, 5}};
enum { N_COSTS = sizeof some_costs / sizeof some_costs[0] };

// Arrivals per second that take up the worker's time, with steps of the target's length.
static double capacity(const struct costs *c) {
    double per_request = 400.0 * c->token_us + 40.0 * c->row_us;
    double share = 1 - c->step_us / (double)TARGET_US;
    return 1e6 * share / per_request;
}

static void the_target_is_held_again_within_20_steps_of_a_tenfold_load(void **state) {
    for (uint32_t i = 0; i < N_COSTS; i++) {
        struct load *l = load_create(&some_costs[i], TARGET_US / 1000, 4096, i + 1);
        double full = 1.5 * capacity(&some_costs[i]); // more than there is room for
        for (uint32_t k = 0; k < 150; k++) load_step(l, full / 10);
        uint32_t jump = l->n_steps;
        l->next_us = l->clock_us;
        for (uint32_t k = 0; k < 300; k++) load_step(l, full);
        uint32_t p99 = p99_us(l, jump + 20);
        print_message("costs %u: p99 %u us from 20 steps after the jump\n", i, p99);
        assert_true(p99 <= TARGET_US);
        load_destroy(l);
    }
}

// Tokens per second under more load than there is room for.
static double throughput(const struct costs *costs, uint32_t inter_token_ms, uint32_t budget, uint32_t *p99) {
    struct load *l = load_create(costs, inter_token_ms, budget, 7);
    double more = 2 * capacity(costs);
    for (uint32_t k = 0; k < 50; k++) load_step(l, more);
    double from = l->clock_us;
    uint64_t before = l->tokens;
    while (l->clock_us < from + 5e6 && l->n_steps < STEPS) load_step(l, more);
    double rate = (double)(l->tokens - before) * 1e6 / (l->clock_us - from);
    *p99 = p99_us(l, 50);
    load_destroy(l);
    return rate;
}

static void throughput_is_near_that_of_the_best_fixed_budget(void **state) {
    for (uint32_t i = 0; i < N_COSTS; i++) {
        uint32_t p99, fixed_p99, best_budget = 0;
        double best = 0, adaptive = throughput(&some_costs[i], TARGET_US / 1000, 4096, &p99);
        uint32_t fits = (TARGET_US - some_costs[i].step_us) / some_costs[i].token_us; // tokens in a step, without answers
        for (uint32_t part = 5; part <= 10; part++) {                                 // of those that hold the target
            uint32_t budget = fits * part / 10;
            double fixed = throughput(&some_costs[i], 0, budget, &fixed_p99);
            if (fixed_p99 <= TARGET_US && fixed > best) best = fixed, best_budget = budget;
        }
        print_message("costs %u: %.0f tokens/s, p99 %u us; best fixed budget %u: %.0f tokens/s (%.2f)\n", i, adaptive, p99,
                      best_budget, best, adaptive / best);
        assert_true(p99 <= TARGET_US);
        assert_true(adaptive >= 0.9 * best);
    }
}

static void a_step_that_is_full_of_answers_still_takes_some_prompt_along(void **state) {
    struct pace p;
    pace_init(&p, 1000, 32, 512);
    step_model_guess(&p.model, 1000, 1000, 0);                // 32 rows alone take 32 ms
    assert_int_equal(pace_prompt_tokens(&p, 32, 1, 512), 32); // out of reach
    p.target_us = 40000;
    assert_int_equal(pace_prompt_tokens(&p, 32, 1, 512), PACE_LEAST_TOKENS);
    assert_int_equal(pace_prompt_tokens(&p, 32, 1, 3), 3);
    assert_int_equal(pace_prompt_tokens(&p, 0, 1, 512), 512); // nobody waits for a token
    p.target_us = 0;
    assert_int_equal(pace_prompt_tokens(&p, 32, 1, 512), 512);
}

static void what_took_longer_than_expected_makes_the_parts_smaller_and_is_forgotten(void **state) {
    struct pace p;
    pace_init(&p, 50000, 32, 512);
    step_model_guess(&p.model, 10000, 10000, 0);
    uint32_t usual = pace_prompt_tokens(&p, 4, 1, 4096);
    for (uint32_t i = 0; i < 30; i++) pace_learn(&p, 4, 400, i % 5 ? 40000 : 90000);
    assert_true(pace_prompt_tokens(&p, 4, 1, 4096) < usual);
    for (uint32_t i = 0; i < 2000; i++) pace_learn(&p, 4, 400 + i % 50, 400 + (400 + i % 50) * 100);
    assert_in_range(pace_prompt_tokens(&p, 4, 1, 4096), usual * 9 / 10, usual * 11 / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_target_is_held_again_within_20_steps_of_a_tenfold_load),
        cmocka_unit_test(throughput_is_near_that_of_the_best_fixed_budget),
        cmocka_unit_test(a_step_that_is_full_of_answers_still_takes_some_prompt_along),
        cmocka_unit_test(what_took_longer_than_expected_makes_the_parts_smaller_and_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
