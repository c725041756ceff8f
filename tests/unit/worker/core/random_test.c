// Random workloads. Whatever the limits, the order of arrival and the faults: plans keep to their contract (the fake engine
// checks), invariants hold after every event, every stream ends with exactly its records, and nothing is left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include "common/base/hash.h"
#include "tests/unit/worker/core/world.h"

static uint32_t drawn(uint64_t seed, uint32_t what, uint32_t from, uint32_t to) {
    return from + (uint32_t)(hash_mix(seed * 131 + what) % (to - from + 1));
}

// Limits from tiny to comfortable.
static struct world_options random_options(uint64_t seed) {
    struct world_options o = world_defaults();
    o.seed = seed;
    o.max_seqs = drawn(seed, 1, 1, 8);
    o.spare_slots = drawn(seed, 21, 0, o.max_seqs);
    o.block_tokens = drawn(seed, 2, 1, 8);
    o.n_blocks = drawn(seed, 3, 0, 1) ? drawn(seed, 4, 4, 40) : 512;
    o.step_tokens = drawn(seed, 5, 0, 2) ? drawn(seed, 6, 1, 64) : 1;
    o.chunk_tokens = drawn(seed, 7, 1, 40);
    o.plans_in_flight = drawn(seed, 8, 1, 4);
    o.max_context = drawn(seed, 9, 20, 300);
    o.queue_max = 200;
    o.grace_ms = drawn(seed, 10, 20, 400);
    o.orphan_tokens = drawn(seed, 11, 0, 40);
    return o;
}

static uint32_t context_of(const struct world_options *o) {
    uint32_t held = o->n_blocks * o->block_tokens;
    return held < o->max_context ? held : o->max_context;
}

static void undisturbed_streams_end_whole_under_any_limits(void **state) {
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct world_options o = random_options(seed);
        struct world *w = world_create(&o);
        uint32_t n = drawn(seed, 20, 1, 24), context = context_of(&o);
        for (uint32_t i = 0; i < n; i++) {
            world_generate(w, 1, 1 + world_random(w, context - 1), world_random(w, 4) ? 1 + world_random(w, 60) : 0);
            world_turns(w, world_random(w, 4));
        }
        world_settle(w, 60000);
        for (uint32_t i = 0; i < n; i++) world_assert_whole(w, i);
        world_destroy(w);
    }
}

// The router of a disturbed world: what it does in one turn.
static void meddle(struct world *w, link_id *link, bool cancels) {
    uint32_t s = w->n_streams ? world_random(w, w->n_streams) : 0;
    switch (world_random(w, 40)) {
    case 0: // the link breaks and comes back
        world_close_link(w, *link);
        world_turns(w, world_random(w, 30));
        *link = world_open_link(w);
        for (uint32_t i = 0; i < w->n_streams; i++)
            if (w->streams[i].asked && !world_ended(w, i)) world_sync(w, i, *link);
        break;
    case 1: // a doubled Generate
        if (w->n_streams && w->streams[s].asked && !world_ended(w, s)) world_ask(w, s, *link);
        break;
    case 2: // placed again
        w->other_request = world_random(w, 2) == 0;
        if (w->n_streams && w->streams[s].asked && !world_ended(w, s)) world_ask_next(w, s, *link);
        break;
    case 3:
        if (cancels && w->n_streams && w->streams[s].asked && !world_ended(w, s)) world_cancel(w, s, *link);
        break;
    default:
        break;
    }
}

// What a router does about streams it hears nothing of, and what it is told.
static void mend(struct world *w, link_id link) {
    for (uint32_t i = 0; i < w->n_streams; i++) {
        struct world_stream *s = &w->streams[i];
        if (!s->asked || world_ended(w, i)) continue;
        if (s->unknown)
            world_ask_next(w, i, link);
        else if (w->now % 64 == i % 64) {
            if (s->accepted)
                world_sync(w, i, link);
            else
                world_ask(w, i, link);
        }
    }
}

static void disturbed(uint64_t seed, uint32_t loss_percent, bool cancels) {
    struct world_options o = random_options(seed);
    struct world *w = world_create(&o);
    link_id link = 1;
    uint32_t n = drawn(seed, 20, 1, 20), context = context_of(&o);
    w->options.loss_percent = loss_percent;
    for (uint32_t turn = 0; turn < 400; turn++) {
        if (w->n_streams < n && world_random(w, 8) == 0)
            world_generate(w, link, 1 + world_random(w, context - 1), 1 + world_random(w, 60));
        if (w->links < WORLD_LINKS - 2) meddle(w, &link, cancels);
        mend(w, link);
        world_turn(w, 1);
    }
    w->options.loss_percent = 0;
    for (uint32_t turn = 0; turn < 30000; turn++) {
        mend(w, link);
        world_turn(w, 1);
        uint32_t open = 0;
        for (uint32_t i = 0; i < w->n_streams; i++) open += !world_ended(w, i);
        if (open == 0) break;
    }
    world_settle(w, 60000);
    for (uint32_t i = 0; i < w->n_streams; i++) {
        if (w->streams[i].done && w->streams[i].end.finish == FINISH_CANCELLED)
            world_assert_prefix(w, i);
        else
            world_assert_whole(w, i);
    }
    world_destroy(w);
}

static void streams_end_whole_over_links_that_break_and_attempts_that_follow(void **state) {
    for (uint64_t seed = 1; seed <= 300; seed++) disturbed(seed, 0, false);
}

static void streams_end_whole_though_messages_are_lost(void **state) {
    for (uint64_t seed = 1000; seed <= 1200; seed++) disturbed(seed, 20, false);
}

static void cancelled_streams_leave_nothing_behind(void **state) {
    for (uint64_t seed = 2000; seed <= 2300; seed++) disturbed(seed, seed % 3 ? 0 : 10, true);
}

static void a_tiny_pool_shared_by_many_gets_on(void **state) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world_options o = world_defaults();
        o.seed = seed;
        o.max_seqs = 8;
        o.block_tokens = 1 + (uint32_t)(seed % 3);
        o.n_blocks = 24 / o.block_tokens;
        o.max_context = 24;
        o.plans_in_flight = 1 + (uint32_t)(seed % 4);
        struct world *w = world_create(&o);
        for (uint32_t i = 0; i < 16; i++) world_generate(w, 1, 1 + world_random(w, 12), 0);
        world_settle(w, 20000);
        for (uint32_t i = 0; i < 16; i++) world_assert_whole(w, i);
        if (seed % 3 == 0) assert_true(world_counters(w).preemptions > 0); // the point of it
        world_destroy(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(undisturbed_streams_end_whole_under_any_limits),
        cmocka_unit_test(streams_end_whole_over_links_that_break_and_attempts_that_follow),
        cmocka_unit_test(streams_end_whole_though_messages_are_lost),
        cmocka_unit_test(cancelled_streams_leave_nothing_behind),
        cmocka_unit_test(a_tiny_pool_shared_by_many_gets_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
