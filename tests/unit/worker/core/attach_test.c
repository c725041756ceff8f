// Attach: a router asks for a stream that it has no records of. It is taken over or it is unknown, but never begun.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "tests/unit/worker/core/world.h"

static struct world *plain(void) {
    struct world_options o = world_defaults(); // orphan_tokens 16, grace 1000 ms
    return world_create(&o);
}

static uint32_t long_stream(struct world *w, uint32_t tokens) {
    for (;;) {
        uint32_t s = world_stream(w, 10, 0), expected[WORLD_TOKENS];
        enum finish finish;
        if (world_expected(w, s, expected, &finish) >= tokens) return s;
    }
}

// As another router would: a later attempt, no records. asks: what world_ask() asks for.
static struct msg attach_of(struct world *w, uint32_t s) {
    struct world_stream *stream = &w->streams[s];
    struct msg_generate g = {.body = (const uint8_t *)&s, .body_len = sizeof s, .max_tokens = stream->max_tokens};
    struct msg m = {.kind = MSG_ATTACH, .attach = {.key = stream->key, .attempt = stream->attempt}};
    m.attach.attempt.takeover++;
    m.attach.asks = generate_asks(&g);
    return m;
}

static void attach(struct world *w, uint32_t s, link_id link, const struct msg *m) {
    struct world_stream *stream = &w->streams[s];
    stream->attempt = m->attach.attempt;
    stream->asked = true;
    stream->accepted = stream->done = stream->rejected = stream->unknown = stream->superseded = false;
    record_log_destroy(stream->log);
    stream->log = record_log_create();
    stream_rx_init(&stream->rx, &stream->key);
    stream_rx_bind(&stream->rx, &stream->attempt, link, 77);
    stream->link = link;
    worker_core_message(w->core, link, m, w->now);
}

static void a_running_stream_is_taken_over_from_its_first_token(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 60);
    world_ask(w, s, 1);
    world_turns(w, 30);
    world_close_link(w, 1); // the router dies
    world_turns(w, 5);
    struct msg m = attach_of(w, s);
    attach(w, s, other, &m);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    assert_int_equal(world_counters(w).accepted, 1);
    assert_int_equal(world_counters(w).attached, 1);
    assert_int_equal(fake_engine_total(w->engine).prefill_tokens, 10); // once
    world_destroy(w);
}

static void a_stream_that_began_otherwise_is_not_the_one(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 100);
    world_ask(w, s, 1);
    world_turns(w, 30);
    uint32_t held = record_log_count(w->streams[s].log);
    uint64_t prefix = record_log_hash(w->streams[s].log, held);
    assert_true(held > 0);
    struct msg m = attach_of(w, s);
    m.attach.held = held, m.attach.prefix = prefix ^ 1;
    attach(w, s, other, &m);
    assert_int_equal(w->streams[s].n_unknown, 1);
    m.attach.held = 100000, m.attach.prefix = prefix;
    attach(w, s, other, &m);
    assert_int_equal(w->streams[s].n_unknown, 2);
    m.attach.held = held;
    attach(w, s, other, &m);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_parked_stream_wakes_up(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 100);
    world_ask(w, s, 1);
    world_turns(w, 30);
    world_close_link(w, 1);
    world_turns(w, 400); // far ahead of what was acknowledged it waits
    uint64_t parked = world_counters(w).decoded_tokens;
    world_turns(w, 20);
    assert_int_equal(world_counters(w).decoded_tokens, parked);
    struct msg m = attach_of(w, s);
    attach(w, s, other, &m);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_finished_stream_is_there_until_its_grace_period_is_over(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 20);
    world_ask(w, s, 1);
    while (!w->streams[s].done || w->n_posts > 0) world_turn(w, 1);
    uint64_t decoded = world_counters(w).decoded_tokens;
    struct msg m = attach_of(w, s);
    attach(w, s, other, &m);
    while (!w->streams[s].done || w->n_posts > 0) world_turn(w, 1);
    world_assert_whole(w, s);
    assert_int_equal(world_counters(w).decoded_tokens, decoded);
    world_turns(w, 1300); // acknowledged, and 1 s
    m.attach.attempt.takeover++;
    attach(w, s, other, &m);
    assert_int_equal(w->streams[s].n_unknown, 1);
    assert_int_equal(world_counters(w).streams, 0);
    world_destroy(w);
}

static void what_is_not_here_or_was_cancelled_is_unknown_and_nothing_begins(void **state) {
    struct world *w = plain();
    uint32_t never = long_stream(w, 20), cancelled = long_stream(w, 40);
    struct msg m = attach_of(w, never);
    attach(w, never, 1, &m);
    assert_int_equal(w->streams[never].n_unknown, 1);
    world_ask(w, cancelled, 1);
    world_turns(w, 10);
    world_cancel(w, cancelled, 1);
    world_turns(w, 5);
    m = attach_of(w, cancelled);
    attach(w, cancelled, 1, &m);
    assert_int_equal(w->streams[cancelled].n_unknown, 1);
    struct msg none = attach_of(w, never);
    none.attach.attempt = (struct attempt){0};
    worker_core_message(w->core, 1, &none, w->now);
    assert_int_equal(world_counters(w).protocol_errors, 1);
    assert_int_equal(world_counters(w).accepted, 1);
    world_discard(w);
}

static void another_fingerprint_is_unknown(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 10);
    struct msg m = attach_of(w, s);
    snprintf(m.attach.fingerprint, sizeof m.attach.fingerprint, "another");
    w->streams[s].attempt = m.attach.attempt; // to hear what is said of it
    worker_core_message(w->core, 1, &m, w->now);
    assert_int_equal(w->streams[s].n_unknown, 1);
    w->streams[s].attempt.takeover--;
    w->streams[s].unknown = false;
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void another_request_under_the_same_id_is_refused_and_the_stream_goes_on(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 10);
    struct msg m = attach_of(w, s);
    m.attach.asks++;
    w->streams[s].attempt = m.attach.attempt;
    worker_core_message(w->core, 1, &m, w->now);
    assert_int_equal(w->streams[s].n_rejected, 1);
    assert_int_equal(w->streams[s].refusal.error.id, ERR_KEY_REUSED);
    w->streams[s].attempt.takeover--;
    w->streams[s].rejected = false;
    stream_rx_bind(&w->streams[s].rx, &w->streams[s].attempt, 1, 77);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_late_attach_is_told_who_has_it_now(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    w->streams[s].attempt.takeover = 5;
    world_ask(w, s, 1);
    world_turns(w, 10);
    struct msg m = attach_of(w, s);
    m.attach.attempt.takeover = 2;
    struct attempt now = w->streams[s].attempt;
    w->streams[s].attempt = m.attach.attempt;
    worker_core_message(w->core, 1, &m, w->now);
    assert_int_equal(w->streams[s].n_superseded, 1);
    w->streams[s].attempt = now;
    w->streams[s].superseded = false;
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void finished_logs_are_kept_within_their_budget_the_oldest_go_first(void **state) {
    struct world_options o = world_defaults();
    o.grace_ms = 100000000;
    o.kept_bytes_max = 40000;
    struct world *w = world_create(&o);
    uint32_t n = 0;
    while (n == 0 || world_counters(w).streams == n) {
        uint32_t s = world_generate(w, 1, 1, 1);
        while (!w->streams[s].done || w->n_posts > 0) world_turn(w, 1);
        assert_true(++n < 1000);
    }
    assert_true(n > 5); // some were kept
    for (int i = 0; i < 20; i++) {
        uint32_t s = world_generate(w, 1, 1, 1);
        while (!w->streams[s].done || w->n_posts > 0) world_turn(w, 1);
    }
    assert_true(world_counters(w).log_bytes <= o.kept_bytes_max);
    assert_int_equal(world_counters(w).streams, n - 1);
    world_sync(w, 20, 1); // the oldest are forgotten, the newest is not
    assert_int_equal(w->streams[20].n_unknown, 1);
    world_sync(w, n + 19, 1);
    assert_int_equal(w->streams[n + 19].n_unknown, 0);
    world_discard(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_running_stream_is_taken_over_from_its_first_token),
        cmocka_unit_test(a_stream_that_began_otherwise_is_not_the_one),
        cmocka_unit_test(a_parked_stream_wakes_up),
        cmocka_unit_test(a_finished_stream_is_there_until_its_grace_period_is_over),
        cmocka_unit_test(what_is_not_here_or_was_cancelled_is_unknown_and_nothing_begins),
        cmocka_unit_test(another_fingerprint_is_unknown),
        cmocka_unit_test(another_request_under_the_same_id_is_refused_and_the_stream_goes_on),
        cmocka_unit_test(a_late_attach_is_told_who_has_it_now),
        cmocka_unit_test(finished_logs_are_kept_within_their_budget_the_oldest_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
