// What goes into a plan, and who gets slots and blocks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/unit/worker/core/world.h"

static uint32_t long_stream(struct world *w, uint32_t n_prompt, uint32_t tokens) {
    for (;;) {
        uint32_t s = world_stream(w, n_prompt, 0), expected[WORLD_TOKENS];
        enum finish finish;
        if (world_expected(w, s, expected, &finish) >= tokens) return s;
    }
}

static uint32_t made(const struct world *w, uint32_t s) { return record_log_count(w->streams[s].log); }

static void answers_come_first_and_prompt_chunks_fill_the_budget(void **state) {
    struct world_options o = world_defaults(); // 32 tokens a step, 16 a chunk
    o.plans_in_flight = 1;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 5, 60), b = long_stream(w, 5, 60), c = long_stream(w, 100, 10), d = long_stream(w, 100, 10);
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 5);
    world_ask(w, c, 1);
    world_ask(w, d, 1);
    world_turns(w, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w->last_work.decode_rows, 2);
        assert_int_equal(w->last_work.prefill_tokens, 30); // 16 of the one, 14 of the other
        assert_int_equal(w->last_work.tokens, 32);
        world_turn(w, 1);
    }
    world_settle(w, 3000);
    world_destroy(w);
}

static void a_long_prompt_does_not_hold_up_a_running_answer(void **state) {
    struct world_options o = world_defaults();
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 5, 60), b = long_stream(w, 400, 1);
    world_ask(w, a, 1);
    world_turns(w, 5);
    world_ask(w, b, 1);
    world_turns(w, 3);
    uint32_t before = made(w, a);
    world_turns(w, 20);
    assert_true(made(w, b) == 0);
    assert_int_equal(made(w, a), before + 20); // a token in each step
    world_settle(w, 3000);
    world_destroy(w);
}

static void the_next_plan_is_with_the_engine_before_the_last_one_is_answered(void **state) {
    for (uint32_t plans = 1; plans <= 4; plans++) {
        struct world_options o = world_defaults();
        o.plans_in_flight = plans;
        struct world *w = world_create(&o);
        uint32_t a = long_stream(w, 5, 60);
        world_ask(w, a, 1);
        world_turns(w, 3);
        for (int i = 0; i < 10; i++) {
            assert_int_equal(fake_engine_pending(w->engine), plans);
            world_turn(w, 1);
        }
        world_settle(w, 3000);
        world_assert_whole(w, a);
        world_destroy(w);
    }
}

// The answers of every two plans in a row are different ones, half of them each: a stage always has something to do.
static void micro_batches_share_the_running_answers_evenly(void **state) {
    for (uint32_t n = 1; n <= 8; n++) {
        struct world_options o = world_defaults();
        o.max_seqs = 8;
        o.plans_in_flight = o.micro_batches = 2;
        struct world *w = world_create(&o);
        uint32_t s[8], before[8];
        for (uint32_t i = 0; i < n; i++) s[i] = long_stream(w, 5, 40);
        for (uint32_t i = 0; i < n; i++) world_ask(w, s[i], 1);
        world_turns(w, 10);
        for (uint32_t i = 0; i < n; i++) before[i] = made(w, s[i]);
        for (uint32_t turn = 0; turn < 20; turn++) {
            assert_int_equal(fake_engine_pending(w->engine), n > 1 ? 2 : 1);
            world_turn(w, 1);
            assert_in_range(w->last_work.decode_rows, n / 2, (n + 1) / 2);
        }
        for (uint32_t i = 0; i < n; i++) assert_int_equal(made(w, s[i]), before[i] + (n > 1 ? 10 : 20));
        world_settle(w, 3000);
        for (uint32_t i = 0; i < n; i++) world_assert_whole(w, s[i]);
        world_destroy(w);
    }
}

// A long prompt's chunks do follow each other in the plans in flight.
static void a_prompt_is_prefilled_by_all_stages_at_once(void **state) {
    struct world_options o = world_defaults(); // 16 tokens a chunk
    o.plans_in_flight = o.micro_batches = 3;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 160, 3);
    world_ask(w, a, 1);
    world_turns(w, 2);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(fake_engine_pending(w->engine), 3);
        world_turn(w, 1);
        assert_int_equal(w->last_work.prefill_tokens, 16);
    }
    world_settle(w, 3000);
    world_assert_whole(w, a);
    world_destroy(w);
}

static void with_a_spare_slot_the_next_sequence_starts_before_the_last_one_has_ended(void **state) {
    for (uint32_t spare = 0; spare < 2; spare++) {
        struct world_options o = world_defaults();
        o.max_seqs = 1;
        o.spare_slots = spare;
        struct world *w = world_create(&o);
        uint32_t s[5], gaps = 0;
        for (uint32_t i = 0; i < 5; i++) s[i] = long_stream(w, 5, 4);
        for (uint32_t i = 0; i < 5; i++) w->streams[s[i]].max_tokens = 4;
        for (uint32_t i = 0; i < 5; i++) world_ask(w, s[i], 1);
        for (world_turns(w, 2); world_counters(w).waiting > 0; world_turn(w, 1)) gaps += fake_engine_pending(w->engine) < 2;
        assert_true(spare ? gaps == 0 : gaps > 0);
        world_settle(w, 3000);
        for (uint32_t i = 0; i < 5; i++) world_assert_whole(w, s[i]);
        world_destroy(w);
    }
}

static void no_plan_goes_beyond_the_last_token(void **state) {
    struct world_options o = world_defaults();
    o.plans_in_flight = 4;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 6, 20);
    w->streams[a].max_tokens = 7;
    world_ask(w, a, 1);
    world_settle(w, 3000);
    assert_int_equal(made(w, a), 7);
    assert_int_equal(fake_engine_total(w->engine).tokens, 6 + 6); // the prompt, and all answer tokens but the last
    world_destroy(w);
}

static void a_budget_smaller_than_the_slots_limits_how_many_run(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 6;
    o.step_tokens = 2;
    struct world *w = world_create(&o);
    uint32_t s[6];
    for (int i = 0; i < 6; i++) s[i] = long_stream(w, 3, 80);
    for (int i = 0; i < 6; i++) world_ask(w, s[i], 1);
    world_turns(w, 60);
    assert_true(made(w, s[0]) > 30 && made(w, s[1]) > 30);
    assert_int_equal(made(w, s[2]), 0);
    assert_int_equal(world_counters(w).running, 2); // no slot is held by one that can't be computed
    world_settle(w, 5000);
    for (int i = 0; i < 6; i++) world_assert_whole(w, s[i]);
    world_destroy(w);
}

static void those_who_wait_are_served_in_order_of_arrival(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 2;
    struct world *w = world_create(&o);
    for (uint32_t i = 0; i < 12; i++) world_generate(w, 1, 10, 5);
    world_settle(w, 3000);
    assert_int_equal(w->n_opened, 12);
    for (uint32_t i = 0; i < 12; i++) assert_int_equal(w->opened[i], i);
    world_destroy(w);
}

static void streams_with_records_go_ahead_of_fresh_ones_but_not_for_ever(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 1;
    struct world *w = world_create(&o);
    uint32_t busy = long_stream(w, 10, 60), fresh = world_stream(w, 10, 3), resumed[12];
    for (uint32_t i = 0; i < 12; i++) resumed[i] = long_stream(w, 10, 5), world_give_records(w, resumed[i], 2);
    for (uint32_t i = 0; i < 12; i++) w->streams[resumed[i]].max_tokens = 4;
    world_ask(w, busy, 1);
    world_turns(w, 3);
    world_ask(w, fresh, 1);
    world_turns(w, 1);
    for (uint32_t i = 0; i < 12; i++) world_ask(w, resumed[i], 1);
    world_settle(w, 3000);
    assert_int_equal(w->n_opened, 14);
    for (uint32_t i = 0; i < 8; i++) assert_int_equal(w->opened[1 + i], resumed[i]);
    assert_int_equal(w->opened[9], fresh); // overtaken by eight
    world_destroy(w);
}

static void without_blocks_the_youngest_leaves_and_comes_back_first(void **state) {
    for (uint32_t prompt = 20; prompt < 24; prompt++) { // so that now the one, now the other lacks a block first
        struct world_options o = world_defaults();
        o.n_blocks = 24; // 96 tokens
        o.max_seqs = 3;
        struct world *w = world_create(&o);
        uint32_t a = long_stream(w, 20, 40), b = long_stream(w, prompt, 40), c = long_stream(w, 8, 8);
        w->streams[a].max_tokens = w->streams[b].max_tokens = 40; // 60 tokens each: not both
        w->streams[c].max_tokens = 8;
        world_ask(w, a, 1);
        world_turns(w, 2);
        world_ask(w, b, 1);
        for (uint32_t i = 0; i < 200 && world_counters(w).preemptions == 0; i++) world_turn(w, 1);
        assert_int_equal(world_counters(w).preemptions, 1);
        world_ask(w, c, 1); // small enough to fit, but it came later
        world_settle(w, 3000);
        uint32_t order[] = {a, b, b, c};
        assert_int_equal(w->n_opened, 4);
        for (uint32_t i = 0; i < 4; i++) assert_int_equal(w->opened[i], order[i]);
        world_assert_whole(w, a);
        world_assert_whole(w, b);
        assert_int_equal(world_counters(w).preemptions, 1); // a was never sent away, and there was no to and fro
        assert_int_equal(world_counters(w).decoded_tokens, 88);
        world_destroy(w);
    }
}

static void nobody_is_let_in_who_would_have_to_leave_at_once(void **state) {
    struct world_options o = world_defaults();
    o.n_blocks = 12;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 9, 20), b = long_stream(w, 34, 10); // 3 blocks; 9, just what is left
    w->streams[a].max_tokens = 20;
    w->streams[b].max_tokens = 10;
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 2);
    assert_int_equal(world_counters(w).blocks_free, 9);
    world_settle(w, 3000);
    assert_int_equal(world_counters(w).preemptions, 0);
    world_assert_whole(w, b);
    world_destroy(w);
}

static void nothing_is_computed_twice_without_a_preemption(void **state) {
    struct world_options o = world_defaults();
    o.plans_in_flight = 3;
    struct world *w = world_create(&o);
    uint32_t prompts = 0;
    for (uint32_t i = 0; i < 10; i++) world_generate(w, 1, 5 + 7 * i, 20), prompts += 5 + 7 * i;
    world_settle(w, 5000);
    struct worker_counters c = world_counters(w);
    assert_int_equal(c.preemptions, 0);
    assert_int_equal(c.prefilled_tokens, prompts);
    assert_int_equal(fake_engine_total(w->engine).prefill_tokens, prompts);
    world_destroy(w);
}

// A world that preempts and cancels all the time. Returns how many tokens were wrong.
static uint32_t wrong_tokens(uint64_t seed, enum worker_bug bug) {
    struct world_options o = world_defaults();
    o.seed = seed;
    o.bug = bug;
    o.n_blocks = 24;
    o.max_context = 80;
    o.unchecked = true;
    struct world *w = world_create(&o);
    for (uint32_t i = 0; i < 300; i++) {
        if (i % 12 == 0) world_generate(w, 1, 8 + world_random(w, 20), 40);
        if (i % 40 == 39) world_cancel(w, w->n_streams - 1, 1);
        world_turn(w, 1);
    }
    uint32_t wrong = fake_engine_wrong(w->engine);
    world_discard(w);
    return wrong;
}

static void a_block_freed_twice_shows_in_the_tokens(void **state) {
    uint32_t caught = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        assert_int_equal(wrong_tokens(seed, WORKER_BUG_NONE), 0);
        caught += wrong_tokens(seed, WORKER_BUG_DOUBLE_FREE) > 0;
    }
    assert_true(caught >= 8);
}

static void a_block_freed_twice_fails_the_invariants(void **state) {
    struct world_options o = world_defaults();
    o.bug = WORKER_BUG_DOUBLE_FREE;
    o.unchecked = true;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 20, 40), b = long_stream(w, 20, 60);
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 10);
    worker_core_check(w->core);
    world_cancel(w, a, 1);
    world_turns(w, 5);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        assert_non_null(freopen("/dev/null", "w", stderr));
        worker_core_check(w->core);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    world_discard(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_first_and_prompt_chunks_fill_the_budget),
        cmocka_unit_test(a_long_prompt_does_not_hold_up_a_running_answer),
        cmocka_unit_test(the_next_plan_is_with_the_engine_before_the_last_one_is_answered),
        cmocka_unit_test(micro_batches_share_the_running_answers_evenly),
        cmocka_unit_test(a_prompt_is_prefilled_by_all_stages_at_once),
        cmocka_unit_test(with_a_spare_slot_the_next_sequence_starts_before_the_last_one_has_ended),
        cmocka_unit_test(no_plan_goes_beyond_the_last_token),
        cmocka_unit_test(a_budget_smaller_than_the_slots_limits_how_many_run),
        cmocka_unit_test(those_who_wait_are_served_in_order_of_arrival),
        cmocka_unit_test(streams_with_records_go_ahead_of_fresh_ones_but_not_for_ever),
        cmocka_unit_test(without_blocks_the_youngest_leaves_and_comes_back_first),
        cmocka_unit_test(nobody_is_let_in_who_would_have_to_leave_at_once),
        cmocka_unit_test(nothing_is_computed_twice_without_a_preemption),
        cmocka_unit_test(a_block_freed_twice_shows_in_the_tokens),
        cmocka_unit_test(a_block_freed_twice_fails_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
