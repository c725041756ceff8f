// Who goes first where a worker is full: priorities, and tenants who share it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "tests/unit/worker/core/world.h"
#include "worker/core/fair.h"

static uint32_t made(const struct world *w, uint32_t s) { return record_log_count(w->streams[s].log); }

// A stream with an answer of at least so many tokens.
static uint32_t long_stream(struct world *w, uint32_t n_prompt, uint32_t tokens) {
    for (;;) {
        uint32_t s = world_stream(w, n_prompt, tokens), expected[WORLD_TOKENS];
        enum finish finish;
        if (world_expected(w, s, expected, &finish) >= tokens) return s;
    }
}

static uint32_t place_of(const struct world *w, uint32_t stream) { // in the order of first admission
    for (uint32_t i = 0; i < w->n_opened; i++)
        if (w->opened[i] == stream) return i;
    return UINT32_MAX;
}

static void the_higher_priority_is_let_in_first(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 1;
    struct world *w = world_create(&o);
    uint32_t s[6];
    for (uint32_t i = 0; i < 6; i++) s[i] = long_stream(w, 10, 10);
    for (uint32_t i = 1; i < 6; i++) w->streams[s[i]].priority = (int32_t)i - 3; // -2 … 2
    w->streams[s[0]].priority = PRIORITY_MAX;                                    // holds the slot while the others come
    for (uint32_t i = 0; i < 6; i++) world_ask(w, s[i], 1);
    world_settle(w, 3000);
    for (uint32_t i = 1; i + 1 < 6; i++) assert_true(place_of(w, s[i]) > place_of(w, s[i + 1]));
    for (uint32_t i = 0; i < 6; i++) world_assert_whole(w, s[i]);
    world_destroy(w);
}

static void a_higher_priority_sends_a_lower_one_away_which_ends_all_the_same(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 2;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 10, 60), b = long_stream(w, 10, 60), high = long_stream(w, 10, 20), equal;
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 10);
    equal = long_stream(w, 10, 20);
    world_ask(w, equal, 1);
    world_turns(w, 10);
    assert_int_equal(world_counters(w).preemptions, 0); // an equal one waits
    w->streams[high].priority = 1;
    world_ask(w, high, 1);
    world_turns(w, 10);
    assert_int_equal(world_counters(w).preemptions, 1);
    assert_true(made(w, high) > 0);
    uint32_t of_a = made(w, a), of_b = made(w, b);
    world_turns(w, 5);
    assert_true(made(w, a) == of_a + 5 && made(w, b) == of_b); // the younger one left
    world_settle(w, 3000);
    uint32_t all[] = {a, b, high, equal};
    for (uint32_t i = 0; i < 4; i++) world_assert_whole(w, all[i]);
    world_destroy(w);
}

static void under_pressure_the_lowest_priority_leaves_not_the_youngest(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 3;
    o.n_blocks = 30; // 120 tokens for 3 × 60
    o.max_context = 100;
    struct world *w = world_create(&o);
    uint32_t low = long_stream(w, 10, 50), b = long_stream(w, 10, 50), c = long_stream(w, 10, 50);
    w->streams[low].priority = -1;
    world_ask(w, low, 1);
    world_turns(w, 3);
    world_ask(w, b, 1);
    world_ask(w, c, 1);
    while (world_counters(w).preemptions == 0) world_turn(w, 1);
    uint32_t before = made(w, low);
    world_turns(w, 5);
    assert_true(made(w, low) <= before + 1);
    world_settle(w, 3000);
    uint32_t all[] = {low, b, c};
    for (uint32_t i = 0; i < 3; i++) world_assert_whole(w, all[i]);
    world_destroy(w);
}

static void a_tenant_that_floods_does_not_make_another_one_wait(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 2;
    struct world *w = world_create(&o);
    uint32_t flood[40], few[4];
    for (uint32_t i = 0; i < 40; i++) flood[i] = long_stream(w, 10, 10), w->streams[flood[i]].tenant = 1;
    for (uint32_t i = 0; i < 4; i++) few[i] = long_stream(w, 10, 10), w->streams[few[i]].tenant = 2;
    for (uint32_t i = 0; i < 40; i++) world_ask(w, flood[i], 1);
    world_turns(w, 30);
    for (uint32_t i = 0; i < 4; i++) world_ask(w, few[i], 1);
    uint32_t opened = w->n_opened;
    world_settle(w, 5000);
    // Half of the slots from then on; two are given ahead of time.
    assert_true(place_of(w, few[3]) <= opened + 2 * 4 + 2);
    world_destroy(w);
}

static void who_would_wait_beyond_its_deadline_is_refused_at_once_and_told(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 2;
    struct world *w = world_create(&o);
    worker_core_ready_to_serve(w->core, "f1", 1000, 100, w->now); // 10 ms a token
    uint32_t running[2], late = long_stream(w, 10, 10), patient = long_stream(w, 10, 10);
    w->step_us = 10000;
    for (uint32_t i = 0; i < 2; i++) world_ask(w, running[i] = long_stream(w, 10, 60), 1);
    world_turns(w, 4);
    w->streams[late].deadline_ms = 100;
    w->streams[patient].deadline_ms = 100000;
    world_ask(w, late, 1);
    world_ask(w, patient, 1);
    world_turns(w, 2);
    assert_true(w->streams[late].rejected && w->streams[late].refusal.error.id == ERR_OVERLOADED);
    assert_non_null(strstr(w->streams[late].refusal.error.text, "work for about"));
    assert_true(w->streams[late].refusal.retry_after_ms > 0);
    assert_false(w->streams[patient].rejected);
    world_settle(w, 5000);
    world_assert_whole(w, patient);
    world_destroy(w);
}

static void a_tenant_that_was_away_brings_no_credit(void **state) {
    static struct fair f;
    uint32_t a = fair_begin(&f, 11), b = fair_begin(&f, 22);
    fair_charge(&f, a, 1000);
    fair_end(&f, b);
    fair_charge(&f, a, 1000);
    b = fair_begin(&f, 22);
    assert_int_equal(fair_counter(&f, b), 2000);
    for (uint32_t i = 0; i < 3 * FAIR_ACCOUNTS; i++) { // more tenants than accounts
        uint32_t c = fair_begin(&f, 100 + i);
        assert_true(c < FAIR_ACCOUNTS && c != a && c != b);
        if (i % 2) fair_end(&f, c);
    }
    assert_int_equal(fair_begin(&f, 11), a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_higher_priority_is_let_in_first),
        cmocka_unit_test(a_higher_priority_sends_a_lower_one_away_which_ends_all_the_same),
        cmocka_unit_test(under_pressure_the_lowest_priority_leaves_not_the_youngest),
        cmocka_unit_test(a_tenant_that_floods_does_not_make_another_one_wait),
        cmocka_unit_test(who_would_wait_beyond_its_deadline_is_refused_at_once_and_told),
        cmocka_unit_test(a_tenant_that_was_away_brings_no_credit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
