// Links, statuses and the life of a worker.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "tests/unit/worker/core/world.h"
#include "worker/core/suspend.h"

static uint32_t long_stream(struct world *w, uint32_t tokens) {
    for (;;) {
        uint32_t s = world_stream(w, 10, 0), expected[WORLD_TOKENS];
        enum finish finish;
        if (world_expected(w, s, expected, &finish) >= tokens) return s;
    }
}

static struct world *plain(void) {
    struct world_options o = world_defaults();
    return world_create(&o);
}

static void a_new_link_gets_hello_and_a_full_status(void **state) {
    struct world *w = plain();
    uint32_t before = w->n_hellos;
    link_id link = world_open_silent_link(w);
    assert_int_equal(w->n_hellos, before + 1);
    assert_true(w->last_hello_wants_reply);
    struct world_status *s = &w->status[link];
    assert_int_equal(s->n_full, 1);
    assert_int_equal(s->state, LIFECYCLE_READY);
    assert_string_equal(s->load.info.model, "r1");
    assert_string_equal(s->load.info.fingerprint, "f00d");
    assert_int_equal(s->load.info.max_context, 512);
    assert_int_equal(s->load.info.max_seqs, 4);
    assert_int_equal(s->load.blocks_total, 256);
    world_destroy(w);
}

static void a_hello_that_wants_a_reply_gets_one(void **state) {
    struct world *w = plain();
    uint32_t before = w->n_hellos, full = w->status[1].n_full;
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .incarnation = w->router};
    m.hello.reply_wanted = true;
    worker_core_message(w->core, 1, &m, w->now);
    assert_int_equal(w->n_hellos, before + 1);
    assert_false(w->last_hello_wants_reply);
    assert_int_equal(w->status[1].n_full, full + 1);
    world_destroy(w);
}

static void a_stranger_is_asked_who_it_is_and_not_served(void **state) {
    struct world *w = plain();
    link_id link = world_open_silent_link(w);
    world_turns(w, 200);
    uint32_t before = w->n_hellos, s = world_generate(w, link, 5, 5);
    assert_int_equal(w->n_hellos, before + 1);
    assert_int_equal(world_counters(w).streams, 0);
    assert_int_equal(world_counters(w).protocol_errors, 1);
    world_ask(w, s, link);
    assert_int_equal(w->n_hellos, before + 1); // not for each frame
    world_hello(w, link, 9, 0);
    world_ask(w, s, link);
    world_settle(w, 3000);
    world_assert_whole(w, s);
    world_destroy(w);
}

static void a_router_of_another_protocol_is_ignored(void **state) {
    struct world *w = plain();
    link_id link = world_open_silent_link(w);
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = 7, .protocol_max = 9, .role = ROLE_ROUTER, .incarnation = 9};
    worker_core_message(w->core, link, &m, w->now);
    uint32_t statuses = w->status[link].n, s = world_stream(w, 5, 5);
    world_ask(w, s, link);
    world_turns(w, 500);
    assert_int_equal(w->status[link].n, statuses);
    assert_int_equal(world_counters(w).streams, 0);
    w->streams[s].asked = false;
    world_destroy(w);
}

static void something_is_said_in_every_heartbeat_and_everything_once_a_second(void **state) {
    struct world *w = plain();
    world_generate(w, 1, 10, 3);
    world_settle(w, 3000);
    world_turns(w, 100);
    struct world_status before = w->status[1];
    uint32_t s = before.n;
    for (uint32_t i = 0; i < 20; i++) {
        world_turns(w, 101);
        assert_true(w->status[1].n > s);
        s = w->status[1].n;
    }
    assert_int_equal(w->status[1].n_full, before.n_full + 2);
    assert_true(w->status[1].n <= before.n + 24);
    world_destroy(w);
}

static void a_router_can_slow_the_heartbeat_down(void **state) {
    struct world *w = plain();
    world_hello(w, 1, w->router, 500);
    world_turns(w, 100);
    uint32_t before = w->status[1].n;
    world_turns(w, 2000);
    assert_true(w->status[1].n - before <= 5 && w->status[1].n - before >= 4);
    world_destroy(w);
}

static void changes_are_gathered_to_four_statuses_a_heartbeat(void **state) {
    struct world *w = plain();
    world_turns(w, 100);
    uint32_t before = w->status[1].n;
    for (uint32_t i = 0; i < 100; i++) {
        world_generate(w, 1, 10, 3);
        world_turns(w, 10);
    }
    uint32_t said = w->status[1].n - before;
    assert_true(said >= 30 && said <= 42);
    world_settle(w, 3000);
    world_destroy(w);
}

static void the_load_tells_what_waits_and_what_runs(void **state) {
    struct world_options o = world_defaults();
    o.max_seqs = 2;
    struct world *w = world_create(&o);
    uint32_t s[5];
    for (uint32_t i = 0; i < 5; i++) s[i] = long_stream(w, 100);
    w->hold_preparations = true;
    for (uint32_t i = 0; i < 5; i++) world_ask(w, s[i], 1);
    world_turns(w, 30);
    assert_int_equal(w->status[1].load.queued, 5);
    assert_int_equal(w->status[1].load.queued_tokens, 50); // estimated from bytes
    assert_int_equal(w->status[1].load.generates_seen, 5);
    w->hold_preparations = false;
    world_turns(w, 30);
    struct deployment_status *load = &w->status[1].load;
    assert_int_equal(load->running, 2);
    assert_int_equal(load->queued, 3);
    assert_int_equal(load->queued_tokens, 30);
    assert_true(load->decode_left > 5 * 100 && load->decode_left < 5 * 257);
    assert_true(load->blocks_free < 256);
    world_settle(w, 5000);
    world_turns(w, 110);
    assert_int_equal(load->running + load->queued, 0);
    assert_int_equal(load->queued_tokens + load->decode_left, 0);
    assert_int_equal(load->blocks_free, 256);
    world_destroy(w);
}

static void generates_are_counted_per_link(void **state) {
    struct world *w = plain();
    link_id other = world_open_link(w);
    for (uint32_t i = 0; i < 3; i++) world_generate(w, 1, 5, 2);
    world_generate(w, other, 5, 2);
    world_ask(w, 3, other); // a repeated one is one more
    world_settle(w, 3000);
    world_turns(w, 110);
    assert_int_equal(w->status[1].load.generates_seen, 3);
    assert_int_equal(w->status[other].load.generates_seen, 2);
    world_destroy(w);
}

static void rates_are_measured_and_told(void **state) {
    struct world_options o = world_defaults();
    o.step_tokens = o.chunk_tokens = 256;
    for (o.plans_in_flight = 1; o.plans_in_flight <= 2; o.plans_in_flight++) {
        struct world *w = world_create(&o); // guessed: 1000 and 100
        w->step_us = 4000, w->row_us = 1000, w->token_us = 50;
        for (uint32_t i = 0; i < 200; i++) {
            world_generate(w, 1, 1 + world_random(w, 200), 12);
            for (uint32_t k = 0; k < 5; k++) world_turn(w, 25); // no step takes longer
        }
        while (world_counters(w).streams > 0) world_turn(w, 25);
        for (uint32_t k = 0; k < 5; k++) world_turn(w, 25);
        float prefill = w->status[1].load.prefill_rate, decode = w->status[1].load.decode_rate;
        assert_true(fabsf(prefill - 20000) < 1000);
        assert_true(fabsf(decode - 500) < 25);
        world_destroy(w);
    }
}

static void a_step_time_that_counts_waiting_behind_another_is_bounded_by_the_clock(void **state) {
    struct world *w = plain();
    w->step_us = 20000; // as an engine would say that counts from submit
    for (uint32_t i = 0; i < 100; i++) {
        if (i % 5 == 0) world_generate(w, 1, 10, 60);
        world_turns(w, 10); // steps come back every millisecond
    }
    world_settle(w, 9000);
    assert_true(world_counters(w).decode_rate > 4e6 / 2500);
    world_destroy(w);
}

static void what_is_not_ready_refuses_and_may_be_tried_again(void **state) {
    struct world_options o = world_defaults();
    o.starts_loading = true;
    struct world *w = world_create(&o);
    uint32_t a = world_generate(w, 1, 5, 5);
    assert_int_equal(w->streams[a].refusal.error.id, ERR_UNAVAILABLE);
    worker_core_loading(w->core, 0.4f, 3000, w->now);
    assert_int_equal(w->status[1].state, LIFECYCLE_LOADING); // at once
    uint32_t b = world_generate(w, 1, 5, 5);
    assert_int_equal(w->streams[b].refusal.error.id, ERR_UNAVAILABLE);
    assert_string_equal(w->streams[b].refusal.error.text, "w1 is loading");
    worker_core_ready_to_serve(w->core, "f00d", 1000, 100, w->now);
    assert_int_equal(w->status[1].state, LIFECYCLE_READY);
    assert_string_equal(w->status[1].load.info.fingerprint, "f00d");
    assert_true(fabsf(w->status[1].load.prefill_rate - 1000) < 1); // first guesses, until something is measured
    assert_true(fabsf(w->status[1].load.decode_rate - 100) < 1);
    uint32_t c = world_generate(w, 1, 5, 5);
    world_settle(w, 3000);
    world_assert_whole(w, c);
    world_destroy(w);
}

static void a_drain_finishes_what_runs_and_takes_nothing_new(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 40), b = world_stream(w, 5, 5);
    world_ask(w, a, 1);
    world_turns(w, 5);
    worker_core_notice(w->core, 0, w->now);
    assert_int_equal(w->status[1].state, LIFECYCLE_NOTICED);
    world_ask(w, b, 1);
    assert_int_equal(w->streams[b].refusal.error.id, ERR_DRAINING);
    assert_false(worker_core_idle(w->core));
    world_ask(w, a, 1); // what is here can still be attached to
    world_settle(w, 3000);
    world_assert_whole(w, a);
    assert_true(worker_core_idle(w->core));
    world_destroy(w);
}

static void at_the_deadline_of_a_drain_the_rest_is_rejected(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 200), b = world_stream(w, 5, 5);
    world_ask(w, a, 1);
    world_turns(w, 5);
    w->hold_preparations = true;
    world_ask(w, b, 1);
    worker_core_notice(w->core, 50, w->now);
    assert_int_equal(w->status[1].deadline_ms, 50);
    world_turns(w, 60);
    assert_int_equal(w->streams[a].refusal.error.id, ERR_DRAINING);
    assert_int_equal(w->streams[b].refusal.error.id, ERR_DRAINING);
    world_assert_prefix(w, a);
    w->hold_preparations = false;
    world_settle(w, 3000);
    assert_true(worker_core_idle(w->core));
    world_destroy(w);
}

static void a_failed_engine_rejects_everything_and_is_not_called_again(void **state) {
    struct world_options o = world_defaults();
    o.plans_in_flight = 3;
    struct world *w = world_create(&o);
    uint32_t s[6];
    for (uint32_t i = 0; i < 6; i++) s[i] = long_stream(w, 60);
    for (uint32_t i = 0; i < 6; i++) world_ask(w, s[i], 1);
    world_turns(w, 10);
    w->other_request = w->hold_preparations = true;
    world_ask_next(w, s[0], 1); // its old sequence waits for its last plans
    world_ask_next(w, s[5], 1);
    worker_core_failed(w->core, w->now);
    worker_core_check(w->core);
    assert_int_equal(w->status[1].state, LIFECYCLE_FAILED);
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(w->streams[s[i]].rejected);
        assert_int_equal(w->streams[s[i]].refusal.error.id, ERR_WORKER_LOST);
    }
    assert_int_equal(w->users, 0);
    assert_int_equal(fake_engine_open_slots(w->engine), 4); // no slot_close came
    uint32_t t = world_stream(w, 5, 5);
    world_ask(w, t, 1);
    assert_int_equal(w->streams[t].refusal.error.id, ERR_UNAVAILABLE);
    w->hold_steps = true;
    w->hold_preparations = false;
    world_turns(w, 300);
    assert_int_equal(w->users, 0);
    worker_core_step_done(w->core, 1, NULL, 0, 0, w->now); // an answer that was under way
    assert_int_equal(world_counters(w).streams, 0);
    assert_true(worker_core_idle(w->core));
    world_discard(w);
}

// A member of the group is gone and comes back: what was under way goes elsewhere, here with the next attempt.
static void a_suspended_worker_gives_its_streams_back_and_serves_again(void **state) {
    for (uint32_t micro = 1; micro <= 3; micro++) {
        struct world_options o = world_defaults();
        o.plans_in_flight = o.micro_batches = micro;
        struct world *w = world_create(&o);
        uint32_t s[6], done = world_generate(w, 1, 4, 2);
        world_settle(w, 3000);
        for (uint32_t i = 0; i < 6; i++) s[i] = long_stream(w, 60);
        world_ask(w, s[0], 1);
        world_turns(w, 80); // it has got more records than a suspect's
        for (uint32_t i = 1; i < 6; i++) world_ask(w, s[i], 1);
        world_turns(w, 4);
        worker_core_suspended(w->core, "stage 1 of group g was lost", w->now);
        worker_core_check(w->core);
        fake_engine_empty(w->engine);
        assert_int_equal(w->status[1].state, LIFECYCLE_LOADING);
        uint32_t blamed = 0;
        for (uint32_t i = 0; i < 6; i++) {
            assert_true(w->streams[s[i]].rejected);
            assert_int_equal(w->streams[s[i]].refusal.error.id, ERR_WORKER_LOST);
            blamed += w->streams[s[i]].refusal.kills;
        }
        assert_int_equal(w->streams[s[0]].refusal.kills, 0); // proven
        assert_in_range(blamed, 1, 3);                       // of those that had a slot, those in an unanswered plan
        struct worker_counters c = world_counters(w);
        assert_true(c.plans_in_flight == 0 && c.running == 0 && c.waiting == 0 && c.blocks_free == c.blocks_total);
        assert_true(c.streams <= 1); // the finished one's log may be kept
        assert_true(w->streams[done].done);
        uint32_t t = world_stream(w, 5, 5);
        world_ask(w, t, 1);
        assert_int_equal(w->streams[t].refusal.error.id, ERR_UNAVAILABLE);
        world_turns(w, 50);
        struct member members[2] = {{.name = "w1", .pid = 1}, {.name = "w1-1", .stage = 1, .pid = 2}};
        uint32_t hellos = w->n_hellos;
        worker_core_group(w->core, 9, 2, members, w->now);
        assert_int_equal(w->n_hellos, hellos + 1);
        fake_engine_epoch(w->engine, 9);
        worker_core_ready_to_serve(w->core, "f1", 0, 0, w->now);
        for (uint32_t i = 0; i < 6; i++) world_ask_next(w, s[i], 1);
        world_settle(w, 6000);
        for (uint32_t i = 0; i < 6; i++) world_assert_whole(w, s[i]);
        world_destroy(w);
    }
}

static void a_worker_suspended_in_its_last_minutes_ends_its_notice(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 40);
    world_ask(w, a, 1);
    world_turns(w, 5);
    worker_core_notice(w->core, 60000, w->now);
    worker_core_suspended(w->core, "stage 1 of group g was lost", w->now);
    fake_engine_empty(w->engine);
    assert_true(w->streams[a].rejected);
    assert_int_equal(worker_core_life(w->core), LIFECYCLE_NOTICED);
    assert_true(worker_core_idle(w->core));
    world_settle(w, 3000);
    world_destroy(w);
}

static void a_members_notice_ends_with_the_member_and_the_workers_own_does_not(void **state) {
    for (int own = 0; own < 2; own++) {
        struct world *w = plain();
        uint32_t a = long_stream(w, 400);
        world_ask(w, a, 1);
        world_turns(w, 5);
        worker_core_member_notice(w->core, 100, w->now);
        assert_true(worker_core_life(w->core) == LIFECYCLE_NOTICED && worker_core_member_leaves(w->core));
        if (own) worker_core_notice(w->core, 60000, w->now);
        worker_core_suspended(w->core, "stage 1 of group g was lost", w->now);
        fake_engine_empty(w->engine);
        assert_int_equal(worker_core_life(w->core), own ? LIFECYCLE_NOTICED : LIFECYCLE_LOADING);
        assert_false(worker_core_member_leaves(w->core));
        fake_engine_epoch(w->engine, 0);
        worker_core_ready_to_serve(w->core, "f1", 0, 0, w->now);
        assert_int_equal(worker_core_life(w->core), own ? LIFECYCLE_NOTICED : LIFECYCLE_READY);
        world_settle(w, 3000);
        world_destroy(w);
    }
}

static void a_silent_router_is_dead_and_its_streams_go_on(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 40);
    world_ask(w, a, 1);
    world_turns(w, 3);
    bool up = w->link_up[1];
    assert_true(up);
    ms_t silent_since = w->now;
    uint64_t before = world_counters(w).decoded_tokens;
    link_id dead = 0;
    while (dead == 0) { // the world's own turn would keep the link alive
        while (fake_engine_pending(w->engine) > 0) world_step(w);
        w->now += 10;
        worker_core_tick(w->core, w->now);
        if (!worker_core_next_dead_link(w->core, &dead)) dead = 0;
        assert_true(w->now - silent_since < 1500);
    }
    assert_int_equal(dead, 1);
    assert_true(w->now - silent_since >= 1000 - 50);
    w->link_up[1] = false;
    world_close_link(w, 1); // the shell closes it too: nothing more
    assert_true(world_counters(w).decoded_tokens > before);
    link_id link = world_open_link(w);
    world_sync(w, a, link);
    world_settle(w, 3000);
    world_assert_whole(w, a);
    world_destroy(w);
}

static void a_router_that_restarted_behind_a_link_has_no_streams_there(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 100);
    world_ask(w, a, 1);
    world_turns(w, 5);
    w->status[1].seq = 0; // the newcomer counts from the start
    world_hello(w, 1, 1234, 0);
    assert_int_equal(w->status[1].load.generates_seen, 0);
    world_turns(w, 3);
    uint32_t had = record_log_count(w->streams[a].log);
    world_turns(w, 100);
    assert_int_equal(record_log_count(w->streams[a].log), had);
    world_sync(w, a, 1);
    world_settle(w, 3000);
    world_assert_whole(w, a);
    world_destroy(w);
}

static void time_that_goes_backwards_does_no_harm(void **state) {
    struct world *w = plain();
    uint32_t a = long_stream(w, 20);
    world_ask(w, a, 1);
    world_turns(w, 5);
    worker_core_tick(w->core, 0);
    worker_core_message(w->core, 1, &(struct msg){.kind = MSG_STATUS}, -5);
    world_settle(w, 3000);
    world_assert_whole(w, a);
    world_destroy(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_link_gets_hello_and_a_full_status),
        cmocka_unit_test(a_hello_that_wants_a_reply_gets_one),
        cmocka_unit_test(a_stranger_is_asked_who_it_is_and_not_served),
        cmocka_unit_test(a_router_of_another_protocol_is_ignored),
        cmocka_unit_test(something_is_said_in_every_heartbeat_and_everything_once_a_second),
        cmocka_unit_test(a_router_can_slow_the_heartbeat_down),
        cmocka_unit_test(changes_are_gathered_to_four_statuses_a_heartbeat),
        cmocka_unit_test(the_load_tells_what_waits_and_what_runs),
        cmocka_unit_test(generates_are_counted_per_link),
        cmocka_unit_test(rates_are_measured_and_told),
        cmocka_unit_test(a_step_time_that_counts_waiting_behind_another_is_bounded_by_the_clock),
        cmocka_unit_test(what_is_not_ready_refuses_and_may_be_tried_again),
        cmocka_unit_test(a_drain_finishes_what_runs_and_takes_nothing_new),
        cmocka_unit_test(at_the_deadline_of_a_drain_the_rest_is_rejected),
        cmocka_unit_test(a_failed_engine_rejects_everything_and_is_not_called_again),
        cmocka_unit_test(a_suspended_worker_gives_its_streams_back_and_serves_again),
        cmocka_unit_test(a_worker_suspended_in_its_last_minutes_ends_its_notice),
        cmocka_unit_test(a_members_notice_ends_with_the_member_and_the_workers_own_does_not),
        cmocka_unit_test(a_silent_router_is_dead_and_its_streams_go_on),
        cmocka_unit_test(a_router_that_restarted_behind_a_link_has_no_streams_there),
        cmocka_unit_test(time_that_goes_backwards_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
