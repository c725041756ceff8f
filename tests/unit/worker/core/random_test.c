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
    o.family_prefix = drawn(seed, 24, 0, 3) ? drawn(seed, 25, 1, 100) : 0;
    o.prefix_cache = (enum prefix_cache)(drawn(seed, 26, 0, 5) % 5 % 3);
    o.priorities = drawn(seed, 27, 0, 1);
    o.micro_batches = drawn(seed, 22, 0, 1) ? drawn(seed, 23, 2, 4) : 1;
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
        o.micro_batches = 1 + (uint32_t)(seed / 4 % 3);
        struct world *w = world_create(&o);
        for (uint32_t i = 0; i < 16; i++) world_generate(w, 1, 1 + world_random(w, 12), 0);
        world_settle(w, 20000);
        for (uint32_t i = 0; i < 16; i++) world_assert_whole(w, i);
        if (seed % 3 == 0) assert_true(world_counters(w).preemptions > 0); // the point of it
        world_destroy(w);
    }
}

static uint32_t odd_number(struct world *w) {
    static const uint32_t numbers[] = {0, 1, 2, 7, 30, 500, UINT32_MAX - 1, UINT32_MAX};
    return numbers[world_random(w, sizeof numbers / sizeof numbers[0])];
}

static struct attempt odd_attempt(struct world *w) {
    return (struct attempt){.takeover = world_random(w, 20) == 0, .counter = world_random(w, 3), .router = 1};
}

// Something a router might say, with any content.
static void say_something_odd(struct world *w, link_id link) {
    uint32_t s = world_random(w, w->n_streams);
    struct stream_key key = w->streams[s].key;
    struct attempt attempt = odd_attempt(w);
    struct sync_entry entries[3];
    struct record records[20];
    static const enum msg_kind usual[] = {MSG_GENERATE, MSG_GENERATE, MSG_ACK, MSG_RESEND, MSG_SYNC, MSG_CANCEL};
    struct msg m = {.kind = (enum msg_kind)world_random(w, MSG_KIND_COUNT + 1)};
    if (world_random(w, 4)) m.kind = usual[world_random(w, sizeof usual / sizeof usual[0])];
    if (world_random(w, 10) == 0) key.choice = 9;
    for (uint32_t i = 0; i < 20; i++) records[i] = (struct record){.token = world_random(w, FAKE_VOCAB)};
    for (uint32_t i = 0; i < 3; i++) entries[i] = (struct sync_entry){key, odd_attempt(w), odd_number(w)};
    switch (m.kind) {
    case MSG_HELLO:
        m.hello = (struct msg_hello){.protocol_max = 1, .role = world_random(w, 8) ? ROLE_ROUTER : ROLE_CLIENT};
        m.hello.protocol_min = world_random(w, 10) ? 1 : 2;
        m.hello.incarnation = world_random(w, 3);
        m.hello.heartbeat_ms = odd_number(w);
        m.hello.reply_wanted = world_random(w, 2);
        break;
    case MSG_GENERATE:
        m.generate = (struct msg_generate){.key = key, .attempt = attempt, .deadline_ms = odd_number(w)};
        m.generate.max_tokens = odd_number(w);
        m.generate.prompt_bytes = odd_number(w);
        m.generate.body = (const uint8_t *)&s;
        m.generate.body_len = sizeof s;
        m.generate.records = (struct records){.array = records, .count = world_random(w, 3) ? 0 : world_random(w, 21)};
        break;
    case MSG_ACK:
        m.ack = (struct msg_ack){key, attempt, odd_number(w), world_random(w, 2)};
        break;
    case MSG_RESEND:
        m.resend = (struct msg_resend){key, attempt, odd_number(w)};
        break;
    case MSG_SYNC:
        m.sync = (struct msg_sync){world_random(w, 4), entries};
        break;
    case MSG_CANCEL:
        m.cancel = (struct msg_cancel){key, attempt};
        break;
    default:
        break;
    }
    worker_core_message(w->core, link, &m, w->now);
    worker_core_check(w->core);
}

static void whatever_a_router_says_nothing_breaks_and_nothing_is_left(void **state) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world_options o = random_options(seed);
        o.queue_max = drawn(seed, 30, 0, 8);
        struct world *w = world_create(&o);
        w->deaf = true;
        for (uint32_t i = 0; i < 6; i++) world_stream(w, 1 + world_random(w, context_of(&o) - 1), 1 + world_random(w, 60));
        link_id links[] = {1, world_open_link(w)};
        for (uint32_t turn = 0; turn < 300; turn++) {
            say_something_odd(w, links[world_random(w, 2)]);
            if (turn % 100 == 50) {
                world_close_link(w, links[0]);
                links[0] = world_open_link(w);
            }
            if (world_random(w, 2)) world_turn(w, 1);
        }
        for (uint32_t i = 0; i < 2; i++) world_close_link(w, links[i]);
        world_settle(w, 20000);
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
        cmocka_unit_test(whatever_a_router_says_nothing_breaks_and_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
