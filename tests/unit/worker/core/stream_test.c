// The worker's half of the protocol, one stream at a time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "tests/unit/worker/core/world.h"

static struct world *plain(void) {
    struct world_options o = world_defaults();
    return world_create(&o);
}

// A stream with at least this many tokens to come.
static uint32_t long_stream(struct world *w, uint32_t tokens) {
    for (;;) {
        uint32_t s = world_stream(w, 10, 0), expected[WORLD_TOKENS];
        enum finish finish;
        if (world_expected(w, s, expected, &finish) >= tokens) return s;
    }
}

static void an_answer_comes_whole_with_tail_usage_and_one_done(void **state) {
    struct world *w = plain();
    uint32_t s = world_generate(w, 1, 20, 40);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    assert_int_equal(w->streams[s].n_accepted, 1);
    assert_int_equal(w->streams[s].n_done, 1);
    char tail[32];
    snprintf(tail, sizeof tail, "end of %u", s);
    assert_string_equal(w->streams[s].tail, tail);
    assert_int_equal(w->streams[s].end.usage.reasoning_tokens, (w->streams[s].end.n_tokens + 1) / 2);
    assert_string_equal(w->streams[s].end.replica, "w1");
    struct worker_counters c = world_counters(w);
    assert_int_equal(c.completed, 1);
    assert_int_equal(c.decoded_tokens, w->streams[s].end.n_tokens);
    assert_int_equal(c.prefilled_tokens, 20);
    world_destroy(w);
}

static void max_tokens_ends_with_length_and_the_context_cuts_it(void **state) {
    struct world *w = plain();
    w->options.max_context = 512;
    uint32_t s = long_stream(w, 8), t = world_stream(w, 511, 100);
    w->streams[s].max_tokens = 8;
    world_ask(w, s, 1);
    world_ask(w, t, 1);
    world_turns(w, 3);
    assert_int_equal(w->streams[s].accepted_max_tokens, 8);
    assert_int_equal(w->streams[t].accepted_max_tokens, 1);
    world_settle(w, 2000);
    assert_int_equal(record_log_count(w->streams[s].log), 8);
    assert_int_equal(record_log_count(w->streams[t].log), 1);
    world_assert_whole(w, t);
    world_destroy(w);
}

static void a_prompt_that_fills_the_context_is_refused_with_numbers(void **state) {
    struct world *w = plain();
    uint32_t s = world_generate(w, 1, 512, 4);
    world_settle(w, 2000);
    assert_true(w->streams[s].rejected);
    assert_int_equal(w->streams[s].refusal.error.id, ERR_CONTEXT_LENGTH);
    assert_string_equal(w->streams[s].refusal.error.text, "the prompt has 512 tokens; the context is 512");
    assert_string_equal(w->streams[s].refusal.replica, "w1");
    world_destroy(w);
}

static void a_prompt_that_the_blocks_can_never_hold_is_refused(void **state) {
    struct world_options o = world_defaults();
    o.n_blocks = 10;
    struct world *w = world_create(&o);
    uint32_t s = world_generate(w, 1, 40, 4), t = world_generate(w, 1, 39, 4);
    world_settle(w, 2000);
    assert_string_equal(w->streams[s].refusal.error.text, "the prompt has 40 tokens; this worker's memory holds 40");
    world_assert_whole(w, t);
    assert_int_equal(w->status[1].load.info.max_context, 40);
    world_destroy(w);
}

static void a_repeated_generate_attaches_and_starts_nothing(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 30);
    world_ask(w, s, 1);
    world_ask(w, s, 1); // while it is prepared
    world_turns(w, 10);
    world_ask(w, s, 1); // while it runs
    world_settle(w, 2000);
    world_assert_whole(w, s);
    assert_int_equal(w->streams[s].n_accepted, 2);
    assert_int_equal(world_counters(w).accepted, 1);
    assert_int_equal(fake_engine_total(w->engine).prefill_tokens, 10);
    world_destroy(w);
}

static void a_repeated_generate_after_the_end_gets_everything_again(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 30);
    world_ask(w, s, 1);
    while (!w->streams[s].done) world_turn(w, 1);
    world_turns(w, 60);
    record_log_destroy(w->streams[s].log);
    w->streams[s].log = record_log_create();
    w->streams[s].done = w->streams[s].asked = false;
    world_ask(w, s, 1);
    world_assert_whole(w, s);
    world_settle(w, 5000);
    assert_int_equal(world_counters(w).accepted, 1);
    world_destroy(w);
}

static void a_later_attempt_takes_over_the_same_sequence(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 10);
    struct attempt old = w->streams[s].attempt;
    world_ask_next(w, s, other);
    assert_int_equal(attempt_compare(&old, &w->streams[s].attempt), -1);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    assert_int_equal(world_counters(w).accepted, 1);
    assert_int_equal(world_counters(w).superseded, 1);
    assert_int_equal(fake_engine_total(w->engine).prefill_tokens, 10); // once
    world_destroy(w);
}

static void a_later_attempt_for_something_else_starts_anew_and_the_old_one_ends_silently(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 10);
    w->other_request = true;
    world_ask_next(w, s, 1);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    assert_int_equal(w->streams[s].n_done, 1);
    assert_int_equal(world_counters(w).accepted, 2);
    assert_int_equal(world_counters(w).superseded, 1);
    world_destroy(w);
}

static void whoever_listens_to_the_old_attempt_elsewhere_is_told(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 10);
    struct msg m = {.kind = MSG_GENERATE};
    m.generate = (struct msg_generate){.key = w->streams[s].key, .attempt = w->streams[s].attempt};
    m.generate.attempt.takeover = 1;
    m.generate.body = (const uint8_t *)&s;
    m.generate.body_len = sizeof s;
    worker_core_message(w->core, other, &m, w->now);
    assert_true(w->streams[s].superseded); // still bound to the old attempt on link 1
    w->n_posts = 0;                        // what it would say to the new one's Tokens
    w->streams[s].attempt = m.generate.attempt;
    stream_rx_bind(&w->streams[s].rx, &m.generate.attempt, other, 77);
    world_ask(w, s, other);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void an_earlier_attempt_is_told_that_it_is_superseded(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    w->streams[s].attempt.counter = 5;
    world_ask(w, s, 1);
    world_turns(w, 5);
    w->streams[s].attempt.counter = 4;
    world_ask(w, s, 1);
    assert_int_equal(w->streams[s].n_superseded, 1);
    world_sync(w, s, 1);
    assert_int_equal(w->streams[s].n_superseded, 2);
    world_cancel(w, s, 1); // about the earlier one: ignored
    assert_int_equal(w->streams[s].n_superseded, 2);
    w->streams[s].attempt.counter = 5;
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_resumed_stream_goes_on_behind_its_records(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_give_records(w, s, 25);
    world_ask(w, s, 1);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    struct worker_counters c = world_counters(w);
    assert_int_equal(c.decoded_tokens, w->streams[s].end.n_tokens - 25); // exactly the missing ones
    assert_int_equal(c.prefilled_tokens, 35);
    assert_int_equal(w->streams[s].least_offset, 25); // what the router has is not sent
    world_destroy(w);
}

static void records_that_this_worker_never_made_start_a_new_sequence(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 6);
    uint32_t had = record_log_count(w->streams[s].log), tokens[WORLD_TOKENS];
    enum finish finish;
    world_expected(w, s, tokens, &finish);
    assert_true(had > 0 && had < 20);
    for (uint32_t i = had; i < 20; i++) { // made elsewhere meanwhile
        struct record r = {.token = tokens[i]};
        record_log_append(w->streams[s].log, &r);
    }
    world_ask_next(w, s, 1);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    assert_int_equal(world_counters(w).accepted, 2);
    world_destroy(w);
}

static void records_that_contradict_the_log_start_a_new_sequence(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 12);
    record_log_destroy(w->streams[s].log); // the stream of another incarnation, say
    w->streams[s].log = record_log_create();
    struct record r = {.token = 1};
    record_log_append(w->streams[s].log, &r);
    world_ask_next(w, s, 1);
    world_turns(w, 2);
    assert_int_equal(world_counters(w).superseded, 1);
    world_turns(w, 20);
    assert_int_equal(world_counters(w).accepted, 2);
    assert_int_equal(record_log_get(w->streams[s].log, 0).token, 1);
    world_cancel(w, s, 1);
    world_settle(w, 3000);
    world_destroy(w);
}

static void a_stream_parked_while_it_is_prepared_runs_no_further_than_others(void **state) {
    struct world *w = plain(); // orphan_tokens 16
    uint32_t s = long_stream(w, 60);
    w->hold_preparations = true;
    world_ask(w, s, 1);
    world_close_link(w, 1);
    w->hold_preparations = false;
    world_turns(w, 200);
    assert_int_equal(world_counters(w).decoded_tokens, 16);
    link_id link = world_open_link(w);
    world_ask(w, s, link);
    world_settle(w, 3000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void tokens_for_a_stream_that_was_replaced_are_void(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 8);
    w->hold_steps = true;
    w->other_request = true;
    world_ask_next(w, s, 1);
    uint64_t before = world_counters(w).decoded_tokens;
    assert_int_equal(world_counters(w).plans_in_flight, 2);
    world_step(w);
    world_step(w);
    assert_int_equal(world_counters(w).decoded_tokens, before);
    assert_int_equal(w->users, 0); // the old one's; the new one is still prepared
    w->hold_steps = false;
    world_settle(w, 3000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_stream_that_lacks_only_its_done_gets_it_without_a_step(void **state) {
    struct world *w = plain();
    uint32_t s = world_stream(w, 10, 0), t = long_stream(w, 20), tokens[WORLD_TOKENS];
    enum finish finish;
    w->streams[t].max_tokens = 20;
    world_give_records(w, s, world_expected(w, s, tokens, &finish)); // ends with a stop
    world_give_records(w, t, 20);                                    // ends by length
    assert_int_equal(finish, FINISH_STOP);
    world_ask(w, s, 1);
    world_ask(w, t, 1);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_assert_whole(w, t);
    assert_int_equal(world_counters(w).steps, 0);
    world_destroy(w);
}

static void a_cancelled_stream_is_not_taken_over_but_begun_again(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 10);
    world_cancel(w, s, 1);
    world_turns(w, 5);
    assert_int_equal(w->streams[s].end.finish, FINISH_CANCELLED);
    w->streams[s].done = false;
    world_ask_next(w, s, 1);
    world_settle(w, 3000);
    world_assert_whole(w, s);
    assert_int_equal(world_counters(w).accepted, 2);
    world_destroy(w);
}

static void a_takeover_brings_its_own_deadline(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 100), b = long_stream(w, 100);
    w->streams[a].deadline_ms = 50;
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 10);
    w->streams[a].deadline_ms = 0;
    w->streams[b].deadline_ms = 50;
    world_ask_next(w, a, 1);
    world_ask_next(w, b, 1);
    world_settle(w, 3000);
    world_assert_whole(w, a);
    assert_int_equal(w->streams[b].end.error.id, ERR_DEADLINE);
    world_destroy(w);
}

static void resend_and_cancel_over_a_new_link_attach_the_stream_to_it(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 60), b = long_stream(w, 60);
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 10);
    link_id link = world_open_link(w); // the old one is not yet known to be dead
    w->streams[a].rx.link = w->streams[b].rx.link = link;
    struct msg m = {.kind = MSG_RESEND, .resend = {w->streams[a].key, w->streams[a].attempt, 0}};
    worker_core_message(w->core, link, &m, w->now);
    world_cancel(w, b, link);
    world_close_link(w, 1);
    world_settle(w, 3000);
    world_assert_whole(w, a);
    assert_int_equal(w->streams[b].end.finish, FINISH_CANCELLED);
    world_destroy(w);
}

static void an_accepted_that_was_lost_comes_again_with_sync(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    w->hold_steps = true;
    w->options.loss_percent = 100;
    world_turns(w, 5);
    w->options.loss_percent = 0;
    assert_false(w->streams[s].accepted);
    world_sync(w, s, 1);
    assert_true(w->streams[s].accepted);
    w->hold_steps = false;
    world_settle(w, 3000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void after_a_reconnect_sync_finds_the_stream(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 40);
    world_ask(w, s, 1);
    world_turns(w, 8);
    world_close_link(w, 1);
    world_turns(w, 10);
    link_id link = world_open_link(w);
    world_sync(w, s, link);
    world_settle(w, 2000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_stream_that_is_not_here_is_unknown(void **state) {
    struct world *w = plain();
    uint32_t s = world_stream(w, 10, 10);
    stream_rx_bind(&w->streams[s].rx, &w->streams[s].attempt, 1, 77);
    world_sync(w, s, 1);
    assert_int_equal(w->streams[s].n_unknown, 1);
    world_cancel(w, s, 1);
    assert_int_equal(w->streams[s].n_unknown, 2);
    world_destroy(w);
}

static void nobodys_stream_runs_so_far_ahead_then_waits_then_goes(void **state) {
    struct world *w = plain(); // orphan_tokens 16, grace 1000 ms
    uint32_t s = long_stream(w, 100);
    world_ask(w, s, 1);
    world_turns(w, 60);
    uint64_t before = world_counters(w).decoded_tokens;
    assert_true(before > 20 && before < 80);
    uint32_t acked = w->streams[s].log ? record_log_count(w->streams[s].log) : 0;
    world_close_link(w, 1);
    world_turns(w, 400);
    uint64_t ahead = world_counters(w).decoded_tokens;
    assert_true(ahead > before - 1 && ahead <= acked + 16);
    assert_int_equal(world_counters(w).plans_in_flight, 0);
    world_turns(w, 500);
    assert_int_equal(world_counters(w).streams, 1);
    world_turns(w, 120);
    assert_int_equal(world_counters(w).streams, 0);
    world_destroy(w);
}

static void a_waiting_stream_takes_the_place_of_one_that_nobody_hears(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 1;
    struct world *w = world_create(&o);
    link_id other = world_open_link(w);
    uint32_t s = long_stream(w, 100), t = long_stream(w, 10);
    world_ask(w, s, 1);
    world_turns(w, 20);
    world_close_link(w, 1);
    world_turns(w, 60);
    world_ask(w, t, other);
    for (uint32_t i = 0; i < 200 && !w->streams[t].done; i++) world_turn(w, 1);
    world_assert_whole(w, t);
    assert_int_equal(world_counters(w).preemptions, 1);
    world_sync(w, s, other); // found again, in time
    world_settle(w, 3000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void cancel_frees_everything_within_one_step(void **state) {
    for (uint32_t plans = 1; plans <= 4; plans++) {
        struct world_options o = world_defaults();
        o.plans_in_flight = plans;
        struct world *w = world_create(&o);
        uint32_t s = long_stream(w, 60);
        world_ask(w, s, 1);
        world_turns(w, 12);
        w->hold_steps = true;
        world_cancel(w, s, 1);
        assert_true(w->streams[s].done);
        assert_int_equal(w->streams[s].end.finish, FINISH_CANCELLED);
        assert_int_equal(w->streams[s].end.n_tokens, record_log_count(w->streams[s].log));
        uint32_t unanswered = world_counters(w).plans_in_flight;
        assert_int_equal(unanswered, plans);
        for (; unanswered > 0; unanswered--) {
            assert_int_equal(world_counters(w).slots_free, 3);
            world_step(w);
        }
        struct worker_counters c = world_counters(w);
        assert_int_equal(c.slots_free, 4);
        assert_int_equal(c.blocks_free, c.blocks_total);
        world_cancel(w, s, 1); // again: nothing more
        world_settle(w, 3000);
        assert_int_equal(w->streams[s].n_done, 1);
        world_assert_prefix(w, s);
        world_destroy(w);
    }
}

static void cancel_works_while_preparing_and_while_waiting(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 1;
    struct world *w = world_create(&o);
    uint32_t a = long_stream(w, 30), b = long_stream(w, 30), c = long_stream(w, 30);
    world_ask(w, a, 1);
    world_turns(w, 2);
    world_ask(w, b, 1);
    world_turns(w, 2);
    w->hold_preparations = true;
    world_ask(w, c, 1);
    assert_int_equal(world_counters(w).waiting, 1);
    world_cancel(w, b, 1);
    world_cancel(w, c, 1);
    assert_int_equal(world_counters(w).waiting, 0);
    assert_int_equal(world_counters(w).preparing, 0);
    assert_int_equal(w->streams[b].end.finish, FINISH_CANCELLED);
    assert_int_equal(w->streams[c].end.finish, FINISH_CANCELLED);
    w->hold_preparations = false; // the answer comes for a stream that needs it no more
    world_settle(w, 3000);
    world_assert_whole(w, a);
    world_destroy(w);
}

static void done_is_repeated_until_acknowledged_and_then_kept_for_the_grace_period(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 5);
    w->streams[s].max_tokens = 5;
    world_ask(w, s, 1);
    w->options.loss_percent = 100;
    world_turns(w, 100);
    assert_false(w->streams[s].done);
    assert_false(worker_core_idle(w->core));
    w->options.loss_percent = 0;
    world_turns(w, 2000);
    world_assert_whole(w, s);
    assert_true(worker_core_idle(w->core));
    world_settle(w, 2000);
    world_destroy(w);
}

static void a_stream_that_nobody_ever_acknowledges_is_let_go_in_the_end(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 5);
    w->streams[s].max_tokens = 5;
    world_ask(w, s, 1);
    w->options.loss_percent = 100;
    world_turns(w, 10000);
    assert_int_equal(world_counters(w).streams, 1);
    world_turns(w, 12000);
    assert_int_equal(world_counters(w).streams, 0);
    w->streams[s].asked = false;
    world_destroy(w);
}

static void no_more_than_so_many_ended_streams_are_kept(void **state) {
    struct world_options o = world_defaults();
    o.grace_ms = 100000000;
    o.unchecked = true;
    struct world *w = world_create(&o);
    for (uint32_t i = 0; i < 4096 + 10; i++) {
        world_generate(w, 1, 1, 1);
        while (!w->streams[i].done || w->n_posts > 0) world_turn(w, 1);
        assert_int_equal(world_counters(w).streams, i < 4096 ? i + 1 : 4096);
    }
    worker_core_check(w->core);
    world_sync(w, 9, 1); // the oldest ten are forgotten
    assert_int_equal(w->streams[9].n_unknown, 1);
    world_sync(w, 10, 1);
    assert_int_equal(w->streams[10].n_unknown, 0);
    world_discard(w);
}

static void not_a_number_fails_one_stream_and_no_other(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 30), b = long_stream(w, 30);
    world_ask(w, a, 1);
    world_ask(w, b, 1);
    world_turns(w, 10);
    w->garble_next = true;
    world_settle(w, 3000);
    struct world_stream *hit = w->streams[a].end.finish == FINISH_ERROR ? &w->streams[a] : &w->streams[b];
    assert_int_equal(hit->end.finish, FINISH_ERROR);
    assert_int_equal(hit->end.error.id, ERR_NUMERIC);
    world_assert_whole(w, hit == &w->streams[a] ? b : a);
    world_assert_prefix(w, a);
    world_assert_prefix(w, b);
    assert_int_equal(world_counters(w).numeric_errors, 1);
    assert_int_equal(world_counters(w).failed, 1);
    world_destroy(w);
}

static void a_deadline_rejects_before_accepted_and_fails_after(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 100), b = long_stream(w, 100);
    w->streams[a].deadline_ms = w->streams[b].deadline_ms = 50;
    world_ask(w, a, 1);
    world_turns(w, 2);
    w->hold_preparations = true;
    world_ask(w, b, 1);
    world_turns(w, 60);
    w->hold_preparations = false;
    world_settle(w, 3000);
    assert_int_equal(w->streams[a].end.finish, FINISH_ERROR);
    assert_int_equal(w->streams[a].end.error.id, ERR_DEADLINE);
    assert_true(record_log_count(w->streams[a].log) > 10);
    assert_true(w->streams[b].rejected);
    assert_int_equal(w->streams[b].refusal.error.id, ERR_DEADLINE);
    world_destroy(w);
}

static void the_queue_has_a_limit_and_an_honest_refusal(void **state) {
    struct world_options o = world_defaults();
    o.spare_slots = 2; // no room for more
    o.max_seqs = 2;
    o.queue_max = 3;
    struct world *w = world_create(&o);
    uint32_t s[7];
    for (uint32_t i = 0; i < 7; i++) s[i] = long_stream(w, 20);
    for (uint32_t i = 0; i < 5; i++) world_ask(w, s[i], 1);
    for (uint32_t i = 0; i < 5; i++) assert_false(w->streams[s[i]].rejected);
    world_ask(w, s[5], 1);
    assert_true(w->streams[s[5]].rejected); // at once
    assert_int_equal(w->streams[s[5]].refusal.error.id, ERR_OVERLOADED);
    assert_true(w->streams[s[5]].refusal.retry_after_ms >= 100);
    world_turns(w, 5); // two run now, three wait
    world_ask(w, s[6], 1);
    assert_int_equal(w->streams[s[6]].refusal.error.id, ERR_OVERLOADED);
    world_settle(w, 3000);
    for (uint32_t i = 0; i < 5; i++) world_assert_whole(w, s[i]);
    world_destroy(w);
}

static void refuse(struct world *w, struct msg_generate *g, err_id id) {
    uint32_t s = world_stream(w, 5, 5);
    g->key = w->streams[s].key;
    g->attempt = w->streams[s].attempt;
    g->body = (const uint8_t *)&s;
    g->body_len = sizeof s;
    stream_rx_bind(&w->streams[s].rx, &g->attempt, 1, 77);
    worker_core_message(w->core, 1, &(struct msg){.kind = MSG_GENERATE, .generate = *g}, w->now);
    assert_true(w->streams[s].rejected);
    assert_int_equal(w->streams[s].refusal.error.id, id);
    assert_true(w->streams[s].refusal.error.text[0] != '\0');
}

static void what_is_meant_for_others_is_refused(void **state) {
    struct world *w = plain();
    refuse(w, &(struct msg_generate){.model = "v3"}, ERR_MODEL_NOT_FOUND);
    refuse(w, &(struct msg_generate){.model = "r1", .deployment = "green"}, ERR_MODEL_NOT_FOUND);
    refuse(w, &(struct msg_generate){.model = "r1", .fingerprint = "beef"}, ERR_UNAVAILABLE);
    refuse(w, &(struct msg_generate){.model = "r1", .pin = "w2"}, ERR_UNAVAILABLE);
    uint32_t s = world_stream(w, 5, 5);
    struct msg m = {.kind = MSG_GENERATE, .generate = {.model = "reasoner", .deployment = "blue", .fingerprint = "f00d"}};
    snprintf(m.generate.pin, sizeof m.generate.pin, "w1");
    m.generate.key = w->streams[s].key;
    m.generate.attempt = w->streams[s].attempt;
    m.generate.body = (const uint8_t *)&s;
    m.generate.body_len = sizeof s;
    stream_rx_bind(&w->streams[s].rx, &m.generate.attempt, 1, 77);
    worker_core_message(w->core, 1, &m, w->now);
    w->streams[s].asked = true;
    world_settle(w, 3000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void what_a_router_may_not_say_is_counted_and_ignored(void **state) {
    struct world *w = plain();
    uint32_t s = long_stream(w, 30);
    world_ask(w, s, 1);
    world_turns(w, 5);
    uint64_t before = world_counters(w).protocol_errors;
    enum msg_kind kinds[] = {MSG_NONE,    MSG_ACCEPTED, MSG_REJECTED,   MSG_TOKENS,  MSG_DONE,
                             MSG_UNKNOWN, MSG_QUERY,    MSG_SUPERSEDED, MSG_CLUSTER, MSG_KIND_COUNT};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        worker_core_message(w->core, 1, &(struct msg){.kind = kinds[i]}, w->now);
    assert_int_equal(world_counters(w).protocol_errors, before + 10);
    worker_core_message(w->core, 1, &(struct msg){.kind = MSG_GENERATE}, w->now); // no attempt
    assert_int_equal(world_counters(w).protocol_errors, before + 11);
    worker_core_message(w->core, 999, &(struct msg){.kind = MSG_STATUS}, w->now); // no such link
    // Numbers that can't be: beyond the log, beyond everything.
    struct msg m = {.kind = MSG_RESEND, .resend = {w->streams[s].key, w->streams[s].attempt, UINT32_MAX}};
    worker_core_message(w->core, 1, &m, w->now);
    m = (struct msg){.kind = MSG_ACK, .ack = {w->streams[s].key, w->streams[s].attempt, UINT32_MAX, true}};
    worker_core_message(w->core, 1, &m, w->now);
    struct sync_entry entry = {w->streams[s].key, w->streams[s].attempt, UINT32_MAX};
    m = (struct msg){.kind = MSG_SYNC, .sync = {1, &entry}};
    worker_core_message(w->core, 1, &m, w->now);
    world_settle(w, 5000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void the_planted_bug_never_sends_again_what_was_lost(void **state) {
    for (uint32_t bug = 0; bug < 2; bug++) {
        struct world_options o = world_defaults();
        if (bug) o.bug = WORKER_BUG_RESEND_IGNORED;
        struct world *w = world_create(&o);
        uint32_t s = long_stream(w, 30);
        world_ask(w, s, 1);
        world_turns(w, 10);
        w->options.loss_percent = 100;
        world_turns(w, 3);
        w->options.loss_percent = 0;
        world_turns(w, 3000);
        assert_int_equal(w->streams[s].done, !bug);
        world_discard(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_whole_with_tail_usage_and_one_done),
        cmocka_unit_test(max_tokens_ends_with_length_and_the_context_cuts_it),
        cmocka_unit_test(a_prompt_that_fills_the_context_is_refused_with_numbers),
        cmocka_unit_test(a_prompt_that_the_blocks_can_never_hold_is_refused),
        cmocka_unit_test(a_repeated_generate_attaches_and_starts_nothing),
        cmocka_unit_test(a_repeated_generate_after_the_end_gets_everything_again),
        cmocka_unit_test(a_later_attempt_takes_over_the_same_sequence),
        cmocka_unit_test(a_later_attempt_for_something_else_starts_anew_and_the_old_one_ends_silently),
        cmocka_unit_test(whoever_listens_to_the_old_attempt_elsewhere_is_told),
        cmocka_unit_test(an_earlier_attempt_is_told_that_it_is_superseded),
        cmocka_unit_test(a_resumed_stream_goes_on_behind_its_records),
        cmocka_unit_test(records_that_this_worker_never_made_start_a_new_sequence),
        cmocka_unit_test(records_that_contradict_the_log_start_a_new_sequence),
        cmocka_unit_test(a_stream_parked_while_it_is_prepared_runs_no_further_than_others),
        cmocka_unit_test(tokens_for_a_stream_that_was_replaced_are_void),
        cmocka_unit_test(a_stream_that_lacks_only_its_done_gets_it_without_a_step),
        cmocka_unit_test(a_cancelled_stream_is_not_taken_over_but_begun_again),
        cmocka_unit_test(a_takeover_brings_its_own_deadline),
        cmocka_unit_test(resend_and_cancel_over_a_new_link_attach_the_stream_to_it),
        cmocka_unit_test(an_accepted_that_was_lost_comes_again_with_sync),
        cmocka_unit_test(after_a_reconnect_sync_finds_the_stream),
        cmocka_unit_test(a_stream_that_is_not_here_is_unknown),
        cmocka_unit_test(nobodys_stream_runs_so_far_ahead_then_waits_then_goes),
        cmocka_unit_test(a_waiting_stream_takes_the_place_of_one_that_nobody_hears),
        cmocka_unit_test(cancel_frees_everything_within_one_step),
        cmocka_unit_test(cancel_works_while_preparing_and_while_waiting),
        cmocka_unit_test(done_is_repeated_until_acknowledged_and_then_kept_for_the_grace_period),
        cmocka_unit_test(a_stream_that_nobody_ever_acknowledges_is_let_go_in_the_end),
        cmocka_unit_test(no_more_than_so_many_ended_streams_are_kept),
        cmocka_unit_test(not_a_number_fails_one_stream_and_no_other),
        cmocka_unit_test(a_deadline_rejects_before_accepted_and_fails_after),
        cmocka_unit_test(the_queue_has_a_limit_and_an_honest_refusal),
        cmocka_unit_test(what_is_meant_for_others_is_refused),
        cmocka_unit_test(what_a_router_may_not_say_is_counted_and_ignored),
        cmocka_unit_test(the_planted_bug_never_sends_again_what_was_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
