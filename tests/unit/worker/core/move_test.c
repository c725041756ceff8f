// A worker that must go hands its sequences over, and another one goes on with them: two worlds with one store. Whatever is
// lost on the way costs a prefill and changes no record.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "common/base/hash.h"
#include "tests/unit/worker/core/world.h"

static struct world *with_store(struct fake_store *store) {
    struct world_options o = world_defaults();
    o.store = store;
    return world_create(&o);
}

static uint32_t long_stream(struct world *w, uint32_t tokens) {
    for (;;) {
        uint32_t s = world_stream(w, 10, 0), expected[WORLD_TOKENS];
        enum finish finish;
        if (world_expected(w, s, expected, &finish) >= tokens) return s;
    }
}

// The stream of the same number in another world, as its router knows it when it places it there.
static void carry_over(struct world *from, struct world *to, uint32_t stream, link_id link) {
    while (to->n_streams <= stream)
        world_stream(to, from->streams[to->n_streams].n_prompt, from->streams[to->n_streams].max_tokens);
    struct world_stream *a = &from->streams[stream], *b = &to->streams[stream];
    world_give_records(to, stream, record_log_count(a->log));
    if (a->offered) snprintf(b->restore, sizeof b->restore, "%s", a->offer.handle);
    b->attempt.counter = a->attempt.counter + 1;
    world_ask(to, stream, link);
}

static void until_offered(struct world *w, const uint32_t *streams, uint32_t n) {
    for (uint32_t turn = 0; turn < 2000; turn++) {
        uint32_t offered = 0;
        for (uint32_t i = 0; i < n; i++) offered += w->streams[streams[i]].offered;
        if (offered == n) return;
        world_turn(w, 1);
    }
    fail_msg("not all were offered");
}

static void eight_streams_move_and_nothing_is_computed_again(void **state) {
    struct fake_store *store = fake_store_create();
    struct world_options o = world_defaults();
    o.store = store;
    o.max_seqs = 8;
    o.n_blocks = 1024;
    struct world *a = world_create(&o), *b = world_create(&o);
    uint32_t s[8];
    for (uint32_t i = 0; i < 8; i++) s[i] = long_stream(a, 150);
    for (uint32_t i = 0; i < 8; i++) world_ask(a, s[i], 1);
    world_turns(a, 40);
    worker_core_notice(a->core, 100, a->now);
    assert_int_equal(a->status[1].state, LIFECYCLE_NOTICED);
    assert_int_equal(a->status[1].deadline_ms, 100);
    until_offered(a, s, 8);
    assert_int_equal(world_counters(a).running, 0); // slots and blocks are free as soon as the state is written
    assert_false(worker_core_idle(a->core));        // the logs wait for the commit
    for (uint32_t i = 0; i < 8; i++) {
        assert_string_equal(a->streams[s[i]].offer.store, "5ca1ab1e");
        assert_true(a->streams[s[i]].offer.lease_ms > 4000);
        carry_over(a, b, s[i], 1);
        world_commit(a, s[i], 1);
        a->streams[s[i]].done = true; // over there
    }
    world_settle(a, 100);
    assert_true(worker_core_idle(a->core));
    world_settle(b, 3000);
    struct worker_counters c = world_counters(b);
    assert_int_equal(c.restores, 8);
    assert_int_equal(c.prefilled_tokens, 0);
    assert_int_equal(fake_engine_total(b->engine).prefill_tokens, 0);
    uint64_t restored = 0;
    for (uint32_t i = 0; i < 8; i++) {
        world_assert_whole(b, s[i]);
        restored += b->streams[s[i]].end.usage.restored_tokens;
    }
    assert_true(restored == c.restored_tokens && restored > 8 * 20);
    assert_int_equal(world_counters(a).moved, 8);
    world_destroy(a);
    world_destroy(b);
    fake_store_destroy(store);
}

static void who_can_end_in_time_ends_here(void **state) {
    struct world *w = with_store(NULL);
    uint32_t brief = world_stream(w, 10, 3), lasting = long_stream(w, 150);
    world_ask(w, brief, 1);
    world_ask(w, lasting, 1);
    while (!w->streams[lasting].accepted) world_turn(w, 1);
    worker_core_notice(w->core, 200, w->now);
    until_offered(w, &lasting, 1);
    assert_string_equal(w->streams[lasting].offer.handle, ""); // there is no store
    world_commit(w, lasting, 1);
    w->streams[lasting].rejected = true;
    world_settle(w, 3000);
    world_assert_whole(w, brief);
    world_assert_prefix(w, lasting);
    world_destroy(w);
}

static void who_was_expected_to_end_and_does_not_is_stopped_before_the_deadline(void **state) {
    struct world *w = with_store(NULL);
    uint32_t s = long_stream(w, 150);
    world_ask(w, s, 1);
    world_turns(w, 30);
    worker_core_notice(w->core, 2000, w->now);
    w->hold_steps = true; // the engine has become slow
    world_turns(w, 1400);
    assert_false(w->streams[s].offered);
    w->hold_steps = false;
    world_turns(w, 1);
    w->hold_steps = true;
    world_turns(w, 120);
    w->hold_steps = false;
    until_offered(w, &s, 1);
    world_commit(w, s, 1);
    w->streams[s].rejected = true;
    world_settle(w, 500);
    world_destroy(w);
}

static void an_offer_is_repeated_until_it_is_committed_and_rejected_at_the_deadline(void **state) {
    struct world *w = with_store(NULL);
    uint32_t s = long_stream(w, 300), t = long_stream(w, 300);
    world_ask(w, s, 1);
    world_ask(w, t, 1);
    world_turns(w, 10);
    w->step_us = 20000;
    worker_core_notice(w->core, 60, w->now);
    world_turns(w, 20);
    worker_core_notice(w->core, 5000, w->now); // a later deadline doesn't count
    world_turns(w, 10);
    assert_int_equal(w->streams[s].n_offers, 1);
    world_sync(w, s, 1); // whoever attaches hears of it
    world_turns(w, 2);
    assert_int_equal(w->streams[s].n_offers, 2);
    world_commit(w, t, 1);
    world_commit(w, t, 1);
    w->streams[t].rejected = true;
    world_turns(w, 60);
    assert_int_equal(w->streams[s].refusal.error.id, ERR_DRAINING);
    world_settle(w, 500);
    assert_int_equal(world_counters(w).moved, 1);
    world_destroy(w);
}

static void a_parked_stream_is_offered_to_the_router_that_comes_for_it(void **state) {
    struct fake_store *store = fake_store_create();
    struct world *w = with_store(store);
    uint32_t s = long_stream(w, 300);
    world_ask(w, s, 1);
    world_turns(w, 10);
    world_close_link(w, 1);
    w->step_us = 50000;
    worker_core_notice(w->core, 900, w->now);
    world_turns(w, 50);
    assert_int_equal(world_counters(w).offered, 1);
    link_id link = world_open_link(w);
    world_sync(w, s, link);
    until_offered(w, &s, 1);
    assert_string_not_equal(w->streams[s].offer.handle, "");
    world_commit(w, s, link);
    w->streams[s].rejected = true;
    world_settle(w, 500);
    world_destroy(w);
    fake_store_destroy(store);
}

static void a_cancelled_stream_is_not_written(void **state) {
    struct fake_store *store = fake_store_create();
    struct world *w = with_store(store);
    uint32_t s = long_stream(w, 300);
    world_ask(w, s, 1);
    world_turns(w, 10);
    w->step_us = 50000;
    fake_moves_hold(w->moves, true);
    worker_core_notice(w->core, 900, w->now);
    world_turns(w, 5);
    world_cancel(w, s, 1);
    fake_moves_hold(w->moves, false);
    world_settle(w, 3000);
    assert_int_equal(w->streams[s].end.finish, FINISH_CANCELLED);
    assert_int_equal(fake_store_count(store), 0);
    world_destroy(w);
    fake_store_destroy(store);
}

static void a_checkpoint_that_cannot_be_loaded_costs_a_prefill(void **state) {
    struct fake_store *store = fake_store_create();
    struct world *a = with_store(store), *b = with_store(store);
    uint32_t s = long_stream(a, 200);
    world_ask(a, s, 1);
    world_turns(a, 40);
    a->step_us = 50000;
    worker_core_notice(a->core, 100, a->now);
    until_offered(a, &s, 1);
    fake_moves_fail(b->moves, 0, 1);
    carry_over(a, b, s, 1);
    world_commit(a, s, 1);
    a->streams[s].done = true;
    world_settle(a, 500);
    world_settle(b, 3000);
    world_assert_whole(b, s);
    assert_int_equal(world_counters(b).restores_failed, 1);
    assert_int_equal(b->streams[s].end.usage.restored_tokens, 0);
    assert_true(world_counters(b).prefilled_tokens >= 10 + record_log_count(a->streams[s].log));
    world_destroy(a);
    world_destroy(b);
    fake_store_destroy(store);
}

static void a_notice_by_message_is_for_the_worker_of_that_name(void **state) {
    struct world *w = with_store(NULL);
    struct msg m = {.kind = MSG_NOTICE, .notice = {.name = "w2", .deadline_ms = 100}};
    worker_core_message(w->core, 1, &m, w->now);
    assert_int_equal(worker_core_life(w->core), LIFECYCLE_READY);
    snprintf(m.notice.name, sizeof m.notice.name, "w1");
    worker_core_message(w->core, 1, &m, w->now);
    assert_int_equal(worker_core_life(w->core), LIFECYCLE_NOTICED);
    world_destroy(w);
}

// ---- at random ----

static uint32_t drawn(uint64_t seed, uint32_t what, uint32_t from, uint32_t to) {
    return from + (uint32_t)(hash_mix(seed * 131 + what) % (to - from + 1));
}

static struct world_options random_options(uint64_t seed, struct fake_store *store) {
    struct world_options o = world_defaults();
    o.seed = seed;
    o.store = drawn(seed, 40, 0, 5) ? store : NULL;
    o.max_seqs = drawn(seed, 1, 1, 8);
    o.spare_slots = drawn(seed, 21, 0, o.max_seqs);
    o.block_tokens = 4; // the two of a pair share a layout
    o.n_blocks = drawn(seed, 3, 0, 1) ? drawn(seed, 4, 16, 60) : 512;
    o.step_tokens = drawn(seed, 6, 1, 64);
    o.chunk_tokens = drawn(seed, 7, 1, 40);
    o.plans_in_flight = drawn(seed, 8, 1, 4);
    o.max_context = 64;
    o.queue_max = 200;
    o.grace_ms = drawn(seed, 10, 20, 400);
    return o;
}

// What the pair's router does with what it hears of stream i at the leaving worker.
static void place_elsewhere(struct world *a, struct world *b, uint32_t i) {
    struct world_stream *s = &a->streams[i];
    bool over_there = b->n_streams > i && b->streams[i].asked;
    if (over_there) {
        if (s->offered && b->streams[i].accepted) world_commit(a, i, 1);
        return;
    }
    if (!s->asked || s->done || !(s->offered || s->rejected || s->unknown)) return;
    carry_over(a, b, i, 1);
}

// What a router does about a stream that it hears nothing of.
static void ask_again(struct world *w, uint32_t i, uint32_t turn) {
    struct world_stream *s = &w->streams[i];
    if (!s->asked || world_ended(w, i) || s->offered || s->unknown || turn % 32 != i % 32) return;
    if (s->accepted)
        world_sync(w, i, 1);
    else
        world_ask(w, i, 1);
}

static void hand_over(uint64_t seed) {
    struct fake_store *store = fake_store_create();
    struct world_options oa = random_options(seed, store), ob = random_options(seed + 1000000, store);
    struct world *a = world_create(&oa), *b = world_create(&ob);
    uint32_t n = drawn(seed, 20, 1, 16), notice_at = drawn(seed, 50, 0, 120);
    if (drawn(seed, 51, 0, 2) == 0) fake_moves_fail(a->moves, 3, 3), fake_moves_fail(b->moves, 3, 3);
    a->options.loss_percent = b->options.loss_percent = drawn(seed, 52, 0, 2) ? 0 : 15;
    a->step_us = 1000 * drawn(seed, 53, 1, 3);
    uint32_t context = 60;
    for (uint32_t turn = 0; turn < 20000; turn++) {
        if (a->n_streams < n && worker_core_life(a->core) == LIFECYCLE_READY && world_random(a, 4) == 0)
            world_generate(a, 1, 1 + world_random(a, context - 1), 1 + world_random(a, 60));
        if (turn == notice_at) worker_core_notice(a->core, drawn(seed, 54, 5, 300), a->now);
        if (turn == notice_at + 400) a->options.loss_percent = b->options.loss_percent = 0;
        for (uint32_t i = 0; i < a->n_streams && turn > notice_at; i++) place_elsewhere(a, b, i);
        for (uint32_t i = 0; i < a->n_streams; i++) ask_again(a, i, turn);
        for (uint32_t i = 0; i < b->n_streams; i++) ask_again(b, i, turn);
        world_turn(a, 1);
        world_turn(b, 1);
        uint32_t open = 0;
        for (uint32_t i = 0; i < a->n_streams; i++) open += !(a->streams[i].done || (i < b->n_streams && world_ended(b, i)));
        if (open == 0 && turn > notice_at + 400 && worker_core_idle(a->core)) break;
    }
    for (uint32_t i = 0; i < a->n_streams; i++) {
        if (a->streams[i].done) {
            world_assert_whole(a, i);
        } else {
            if (i >= b->n_streams || !b->streams[i].done)
                fail_msg("seed %llu: stream %u never ended", (unsigned long long)seed, i);
            world_assert_whole(b, i);
            a->streams[i].rejected = true;
        }
    }
    for (uint32_t i = 0; i < b->n_streams; i++)
        if (!b->streams[i].asked) b->streams[i].done = true;
    world_settle(a, 60000);
    world_settle(b, 60000);
    world_destroy(a);
    world_destroy(b);
    fake_store_destroy(store);
}

static void streams_move_whole_whatever_happens_to_checkpoints_and_messages(void **state) {
    for (uint64_t seed = 1; seed <= 300; seed++) hand_over(seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_streams_move_and_nothing_is_computed_again),
        cmocka_unit_test(who_can_end_in_time_ends_here),
        cmocka_unit_test(who_was_expected_to_end_and_does_not_is_stopped_before_the_deadline),
        cmocka_unit_test(an_offer_is_repeated_until_it_is_committed_and_rejected_at_the_deadline),
        cmocka_unit_test(a_parked_stream_is_offered_to_the_router_that_comes_for_it),
        cmocka_unit_test(a_cancelled_stream_is_not_written),
        cmocka_unit_test(a_checkpoint_that_cannot_be_loaded_costs_a_prefill),
        cmocka_unit_test(a_notice_by_message_is_for_the_worker_of_that_name),
        cmocka_unit_test(streams_move_whole_whatever_happens_to_checkpoints_and_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
