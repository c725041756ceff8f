// The router's core over scripted links: links, attempts and events, message by message.
#include "tests/unit/router/core/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// --- links

static void a_strangers_frame_is_answered_by_hello_and_dropped(void **state) {
    struct world w;
    script_world(&w);
    router_core_link_opened(w.core, 77, false, w.now);
    world_forget(&w);
    struct msg m = script_client_generate(1);
    world_say(&w, 77, &m);
    assert_int_equal(world_count(&w, 77, MSG_HELLO), 1);
    assert_true(world_heard(&w, 77, MSG_HELLO)->m.hello.reply_wanted);
    assert_null(world_heard(&w, 77, MSG_REJECTED));
    world_fini(&w);
}

static void an_incompatible_protocol_is_answered_and_ignored(void **state) {
    struct world w;
    script_world(&w);
    router_core_link_opened(w.core, 77, false, w.now);
    world_forget(&w);
    struct msg m = {.kind = MSG_HELLO,
                    .hello = {.protocol_min = 7, .protocol_max = 9, .role = ROLE_CLIENT, .incarnation = 5}};
    m.hello.reply_wanted = true;
    world_say(&w, 77, &m);
    m = script_client_generate(1);
    world_say(&w, 77, &m);
    assert_int_equal(world_count(&w, 77, MSG_HELLO), 1);
    assert_null(world_heard(&w, 77, MSG_REJECTED));
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_true(c.protocol_errors >= 1);
    assert_int_equal(c.requests, 0);
    world_fini(&w);
}

static void every_link_hears_something_in_each_heartbeat(void **state) {
    struct world w;
    script_world(&w);
    link_id worker = script_worker(&w, "w", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    for (uint32_t i = 0; i < 10; i++) {
        world_forget(&w);
        world_run(&w, 101);
        assert_true(world_count(&w, worker, MSG_STATUS) >= 1);
        world_say_ready(&w, worker, "m", 4, i + 2); // stays alive
    }
    world_forget(&w);
    world_run(&w, 1000);
    assert_true(world_count(&w, client, MSG_STATUS) >= 4);
    world_fini(&w);
}

static void silence_makes_a_link_suspect_then_dead_and_its_stream_goes_on_elsewhere(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    link_id b = script_worker(&w, "b", 4);
    world_run(&w, 250);
    world_say_ready(&w, b, "m", 4, 2);
    world_run(&w, 250); // a has been silent for 500 ms
    world_say_ready(&w, b, "m", 4, 3);
    world_submit(&w, "m", 8, 8, 40, 0);
    assert_non_null(script_generate(&w, b)); // the new one goes to b
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 1);
    for (uint32_t i = 0; i < 3; i++) world_run(&w, 200), world_say_ready(&w, b, "m", 4, 4 + i);
    link_id dead = 0;
    assert_true(router_core_next_dead_link(w.core, &dead));
    assert_int_equal(dead, a);
    assert_false(router_core_next_dead_link(w.core, &dead));
    const struct captured *again = world_heard(&w, b, MSG_GENERATE);
    assert_true(stream_key_equal(&again->m.generate.key, &g.key));
    assert_int_equal(again->n_records, 3);
    assert_int_equal(again->m.generate.attempt.counter, 2);
    assert_string_equal(again->m.generate.fingerprint, "f");
    struct msg_generate second = again->m.generate;
    assert_true(second.seed == g.seed);
    script_finish(&w, b, &second, 3, 8);
    assert_true(r->done);
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.deaths, 1);
    assert_int_equal(c.replacements, 1);
    router_core_cancel(w.core, w.requests[1].session, w.now);
    w.requests[1].session = NULL;
    world_fini(&w);
}

static void after_a_pause_of_its_own_the_router_listens_before_it_judges(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    world_submit(&w, "m", 8, 8, 40, 0);
    w.now += 5000; // stopped
    w.tick_at = router_core_tick(w.core, w.now);
    link_id dead;
    assert_false(router_core_next_dead_link(w.core, &dead));
    world_say_ready(&w, a, "m", 4, 2);
    world_run(&w, 900);
    assert_false(router_core_next_dead_link(w.core, &dead));
    world_run(&w, 200);
    assert_true(router_core_next_dead_link(w.core, &dead));
    router_core_cancel(w.core, w.requests[0].session, w.now);
    w.requests[0].session = NULL;
    world_fini(&w);
}

static void workers_that_died_before_the_request_came_are_not_held_against_it(void **state) {
    struct world w;
    script_world(&w);
    link_id links[3] = {script_worker(&w, "a", 4), script_worker(&w, "b", 4), script_worker(&w, "c", 4)};
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    for (uint32_t i = 0; i < 3; i++) router_core_link_closed(w.core, links[i], w.now); // all noticed at once
    assert_false(r->failed);
    link_id d = script_worker(&w, "d", 4);
    struct msg_generate g = *script_generate(&w, d);
    script_finish(&w, d, &g, 0, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void workers_that_spoke_on_without_having_seen_the_request_did_not_die_of_it(void **state) {
    struct world w;
    script_world(&w);
    link_id links[3] = {script_worker(&w, "a", 4), script_worker(&w, "b", 4), script_worker(&w, "c", 4)};
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    for (uint32_t died = 0; died < 2; died++) { // the way there is cut, the way back is not
        for (uint32_t ms = 0; ms < 500; ms += 50) {
            for (uint32_t i = died; i < 3; i++) world_say(&w, links[i], &(struct msg){.kind = MSG_STATUS});
            world_run(&w, 50);
        }
        uint32_t at = died;
        while (script_generate(&w, links[at]) == NULL) at++;
        router_core_link_closed(w.core, links[at], w.now);
        links[at] = links[died];
        world_run(&w, 1);
    }
    assert_false(r->failed);
    struct msg_generate g = *script_generate(&w, links[2]);
    script_finish(&w, links[2], &g, 0, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void a_worker_that_turns_up_again_was_not_killed(void **state) {
    struct world w;
    script_world(&w);
    struct request *r = NULL;
    for (uint32_t i = 0; i < 5; i++) {
        link_id a = world_script_as(&w, ROLE_WORKER, "a", "here", false, 500);
        world_say_ready(&w, a, "m", 4, 1);
        if (i == 0) r = world_submit(&w, "m", 8, 8, 40, 0);
        struct msg_generate g = *script_generate(&w, a);
        script_accepted(&w, a, &g);
        router_core_link_closed(w.core, a, w.now);
    }
    assert_false(r->failed);
    link_id b = world_script_as(&w, ROLE_WORKER, "a", "here", false, 501);
    world_say_ready(&w, b, "m", 4, 1);
    struct msg_generate g = *script_generate(&w, b);
    script_accepted(&w, b, &g);
    router_core_link_closed(w.core, b, w.now);
    assert_false(r->failed); // one of them may still turn up
    world_run(&w, 2000);
    assert_true(r->failed && r->error == ERR_POISON_REQUEST); // 500 did not come back this time
    world_fini(&w);
}

static void sessions_that_ran_well_before_their_worker_died_are_placed_again_together(void **state) {
    enum { RUNNING = 3 };
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 8);
    for (uint32_t i = 0; i < RUNNING + 2; i++) { // the last two have not got a record when it dies
        world_submit(&w, "m", 40, 40, 40, 0);
        struct msg_generate g = *script_generate(&w, a);
        script_accepted(&w, a, &g);
        if (i < RUNNING) script_tokens(&w, a, &g, 0, 20);
    }
    link_id b = script_worker(&w, "b", 8);
    world_forget(&w);
    router_core_link_closed(w.core, a, w.now);
    assert_int_equal(world_count(&w, b, MSG_GENERATE), RUNNING + 1); // of the two suspects one waits
    for (uint32_t i = 0; i < RUNNING + 2; i++) {
        router_core_cancel(w.core, w.requests[i].session, w.now);
        w.requests[i].session = NULL;
    }
    world_fini(&w);
}

static void two_connections_lost_at_once_are_no_deaths_if_the_workers_turn_up_again(void **state) {
    struct world w;
    script_world(&w);
    link_id first = world_script_as(&w, ROLE_WORKER, "a", "here", false, 500);
    world_say_ready(&w, first, "m", 4, 1);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, first);
    script_accepted(&w, first, &g);
    link_id second = world_script_as(&w, ROLE_WORKER, "b", "here", false, 501);
    world_say_ready(&w, second, "m", 4, 1);
    router_core_link_closed(w.core, first, w.now);
    g = *script_generate(&w, second);
    script_accepted(&w, second, &g);
    router_core_link_closed(w.core, second, w.now);
    world_run(&w, 100);
    link_id again = world_script_as(&w, ROLE_WORKER, "a", "here", false, 500);
    world_say_ready(&w, again, "m", 4, 1);
    world_run(&w, 100);
    assert_false(r->failed);
    g = *script_generate(&w, again);
    script_finish(&w, again, &g, 0, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void what_an_earlier_attempt_still_says_is_dropped_and_cancelled(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    struct msg unknown = {.kind = MSG_UNKNOWN, .unknown = {g.key, g.attempt}};
    world_say(&w, a, &unknown);
    struct msg_generate second = *script_generate(&w, a);
    assert_int_equal(second.attempt.counter, 2);
    world_forget(&w);
    script_tokens(&w, a, &g, 3, 2);
    assert_int_equal(session_view(r->session).attempt.counter, 2);
    assert_int_equal(record_log_count(session_view(r->session).log), 3);
    assert_int_equal(world_count(&w, a, MSG_CANCEL), 1);
    script_done(&w, a, &g, 3);
    assert_false(r->done);
    assert_true(world_heard(&w, a, MSG_ACK)->m.ack.done);
    script_finish(&w, a, &second, 3, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void a_process_that_reconnects_gets_sync_and_goes_on_with_the_same_attempt(void **state) {
    struct world w;
    script_world(&w);
    link_id a = world_script_as(&w, ROLE_WORKER, "a", "here", false, 500);
    world_say_ready(&w, a, "m", 4, 1);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    world_forget(&w);
    link_id again = world_script_as(&w, ROLE_WORKER, "a", "here", false, 500);
    const struct captured *sync = world_heard(&w, again, MSG_SYNC);
    assert_non_null(sync);
    assert_int_equal(sync->m.sync.n_entries, 1);
    assert_int_equal(sync->first_entry.next, 3);
    assert_true(attempt_equal(&sync->first_entry.attempt, &g.attempt));
    link_id dead = 0;
    assert_true(router_core_next_dead_link(w.core, &dead));
    assert_int_equal(dead, a);
    assert_null(script_generate(&w, again));
    router_core_link_closed(w.core, a, w.now); // idempotent: nothing happens to the stream
    script_finish(&w, again, &g, 3, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void a_new_incarnation_under_the_same_name_kills_the_old_at_once(void **state) {
    struct world w;
    script_world(&w);
    link_id a = world_script_as(&w, ROLE_WORKER, "a", "here", false, 500);
    world_say_ready(&w, a, "m", 4, 1);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    link_id b = world_script_as(&w, ROLE_WORKER, "a", "here", false, 501);
    assert_int_equal(session_view(r->session).state, SESSION_QUEUED);
    world_say_ready(&w, b, "m", 4, 1);
    struct msg_generate second = *script_generate(&w, b);
    assert_int_equal(second.attempt.counter, 2);
    script_finish(&w, b, &second, 0, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void a_late_hello_of_an_older_connection_does_not_displace_the_newer(void **state) {
    struct world w;
    script_world(&w);
    router_core_link_opened(w.core, ++w.next_link, false, w.now);
    link_id old = w.next_link;
    link_id b = world_script_as(&w, ROLE_WORKER, "a", "here", false, 501);
    world_say_ready(&w, b, "m", 4, 1);
    struct msg m = {.kind = MSG_HELLO,
                    .hello = {.protocol_min = 1, .protocol_max = 1, .role = ROLE_WORKER, .incarnation = 500}};
    snprintf(m.hello.name, NAME_SIZE, "a");
    world_say(&w, old, &m);
    world_submit(&w, "m", 8, 8, 40, 0);
    assert_non_null(script_generate(&w, b));
    link_id dead = 0;
    assert_true(router_core_next_dead_link(w.core, &dead));
    assert_int_equal(dead, old);
    router_core_cancel(w.core, w.requests[0].session, w.now);
    w.requests[0].session = NULL;
    world_fini(&w);
}

// --- sessions

static void a_generate_or_an_accepted_that_is_lost_is_mended_by_asking_again(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    for (uint32_t i = 0; i < 6; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 2 + i);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 2);
    assert_true(attempt_equal(&script_generate(&w, a)->attempt, &g.attempt));
    script_tokens(&w, a, &g, 0, 2); // its Accepted was lost
    assert_true(r->accepted);
    world_forget(&w);
    for (uint32_t i = 0; i < 6; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 20 + i);
    assert_non_null(world_heard(&w, a, MSG_SYNC));
    assert_null(script_generate(&w, a));
    script_finish(&w, a, &g, 2, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void a_refusal_sends_it_elsewhere_and_a_final_one_ends_it(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    link_id b = script_worker(&w, "b", 4);
    script_rejected(&w, a, &g, ERR_OVERLOADED, 0);
    struct msg_generate second = *script_generate(&w, b);
    assert_int_equal(second.attempt.counter, 2);
    script_rejected(&w, b, &second, ERR_CONTEXT_LENGTH, 0);
    assert_true(r->failed);
    assert_int_equal(r->error, ERR_CONTEXT_LENGTH);
    world_fini(&w);
}

static void refused_by_everyone_it_comes_back_after_a_pause_a_bounded_number_of_times(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    uint32_t seq = 2, refusals = 0;
    for (uint32_t i = 0; i < 40 && !r->failed; i++) {
        const struct msg_generate *g = script_generate(&w, a);
        if (g) {
            struct msg_generate copy = *g;
            world_forget(&w);
            script_rejected(&w, a, &copy, ERR_OVERLOADED, 0);
            refusals++;
        }
        world_run(&w, 210);
        world_say_ready(&w, a, "m", 4, seq++);
    }
    assert_true(r->failed);
    assert_int_equal(r->error, ERR_OVERLOADED);
    assert_int_equal(refusals, 9);
    world_fini(&w);
}

static void only_a_replica_of_the_same_fingerprint_goes_on_with_a_stream(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 2);
    link_id other = world_script(&w, ROLE_WORKER, "other", "here", false);
    struct deployment_status d = {.groups = STATUS_ALL, .replicas_ready = 1, .replicas_total = 1};
    snprintf(d.info.model, NAME_SIZE, "m");
    snprintf(d.info.deployment, NAME_SIZE, "d");
    snprintf(d.info.fingerprint, FINGERPRINT_SIZE, "g");
    d.info.max_seqs = 4;
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = 1, .full = true, .has_life = true, .state = LIFECYCLE_READY}};
    m.status.n_deployments = 1, m.status.deployments = &d;
    world_say(&w, other, &m);
    router_core_link_closed(w.core, a, w.now);
    assert_null(script_generate(&w, other));
    assert_int_equal(session_view(r->session).state, SESSION_QUEUED);
    link_id b = script_worker(&w, "b", 4);
    assert_non_null(script_generate(&w, b));
    struct msg_generate second = *script_generate(&w, b);
    script_finish(&w, b, &second, 2, 8);
    assert_true(r->done);
    world_fini(&w);
}

static void a_deadline_ends_what_waits_and_what_runs(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 1);
    struct request *runs = world_submit(&w, "m", 8, 1, 40, 700);
    struct msg_generate g = *script_generate(&w, a);
    assert_int_equal(g.deadline_ms, 700);
    script_accepted(&w, a, &g);
    world_submit(&w, "m", 8, 1, 40, 0); // fills the place beside the slot
    struct request *waits = world_submit(&w, "m", 8, 1, 40, 600);
    assert_int_equal(session_view(waits->session).state, SESSION_QUEUED);
    for (uint32_t i = 0; i < 4; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 1, 2 + i);
    assert_true(waits->failed && waits->error == ERR_DEADLINE);
    assert_true(runs->failed && runs->error == ERR_DEADLINE);
    assert_true(stream_key_equal(&world_heard(&w, a, MSG_CANCEL)->m.cancel.key, &g.key));
    router_core_cancel(w.core, w.requests[1].session, w.now);
    w.requests[1].session = NULL;
    world_fini(&w);
}

static void a_replica_holds_a_few_more_than_its_slots_and_the_rest_wait_here(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 16);
    for (uint32_t i = 0; i < 30; i++) world_submit(&w, "m", 8, 8, 40, 0);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 18);
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.queued, 12);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_finish(&w, a, &g, 0, 8);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 19);
    for (uint32_t i = 0; i < 30; i++) {
        if (w.requests[i].session && !w.requests[i].done) router_core_cancel(w.core, w.requests[i].session, w.now);
        if (!w.requests[i].done) w.requests[i].session = NULL;
    }
    world_fini(&w);
}

static void other_routers_requests_on_a_replica_count_as_load(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct deployment_status d = {.groups = STATUS_LOAD, .running = 4, .queued = 0, .decode_left = 400, .replicas_ready = 1};
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = 2, .n_deployments = 1, .deployments = &d}};
    world_say(&w, a, &m);
    for (uint32_t i = 0; i < 3; i++) world_submit(&w, "m", 8, 8, 40, 0);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 1); // five places, four taken by others
    d = (struct deployment_status){.groups = STATUS_LOAD, .running = 1, .replicas_ready = 1, .generates_seen = 1};
    m.status.seq = 3; // the others are gone; what runs is ours
    world_say(&w, a, &m);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 3);
    for (uint32_t i = 0; i < 3; i++) {
        router_core_cancel(w.core, w.requests[i].session, w.now);
        w.requests[i].session = NULL;
    }
    world_fini(&w);
}

static void the_events_of_a_life_come_in_order_and_the_view_tells_all(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 5, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    assert_true(g.has_seed && g.attempt.counter == 1 && g.attempt.router == 1000 && g.hops == 0);
    assert_string_equal(g.deployment, "d");
    assert_false(r->accepted);
    script_accepted(&w, a, &g);
    assert_true(r->accepted);
    script_tokens(&w, a, &g, 0, 2);
    script_tokens(&w, a, &g, 1, 4); // an overlap
    script_done(&w, a, &g, 5);
    assert_true(r->done);
    struct session_view v = session_view(r->session);
    assert_int_equal(v.state, SESSION_ENDED);
    assert_int_equal(v.prompt_tokens, 10);
    assert_int_equal(record_log_count(v.log), 5);
    assert_string_equal(v.fingerprint, "f");
    assert_int_equal(v.done->tail_len, 1);
    assert_memory_equal(v.done->tail, "!", 1);
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.records, 5);
    assert_int_equal(c.duplicates_dropped, 1);
    world_fini(&w);
}

static void a_done_before_its_records_asks_for_them(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 5, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_tokens(&w, a, &g, 0, 2);
    script_done(&w, a, &g, 5);
    assert_false(r->done);
    assert_int_equal(world_heard(&w, a, MSG_RESEND)->m.resend.from, 2);
    script_finish(&w, a, &g, 2, 5);
    assert_true(r->done);
    world_fini(&w);
}

static void a_worker_that_contradicts_itself_loses_the_attempt(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 5, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_tokens(&w, a, &g, 0, 4);
    link_id b = script_worker(&w, "b", 4);
    script_done(&w, a, &g, 2);
    struct msg_generate second = *script_generate(&w, b);
    script_finish(&w, b, &second, 4, 5);
    assert_true(r->done);
    world_fini(&w);
}

static void an_answer_that_ends_cancelled_though_nobody_cancelled_it_goes_on_as_the_next_attempt(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 1);
    world_submit(&w, "m", 10, 10, 40, 0);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    world_forget(&w);
    struct msg m = {.kind = MSG_DONE, .done = {g.key, g.attempt, 3, .finish = FINISH_CANCELLED}};
    world_say(&w, a, &m);
    assert_int_equal(w.n_ended, 0);
    struct msg_generate next = *script_generate(&w, a);
    assert_int_equal(next.attempt.counter, g.attempt.counter + 1);
    assert_int_equal(next.records.count, 3);
    script_finish(&w, a, &next, 3, 10);
    assert_int_equal(w.n_done, 1);
    world_fini(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_strangers_frame_is_answered_by_hello_and_dropped),
        cmocka_unit_test(an_incompatible_protocol_is_answered_and_ignored),
        cmocka_unit_test(every_link_hears_something_in_each_heartbeat),
        cmocka_unit_test(silence_makes_a_link_suspect_then_dead_and_its_stream_goes_on_elsewhere),
        cmocka_unit_test(after_a_pause_of_its_own_the_router_listens_before_it_judges),
        cmocka_unit_test(workers_that_died_before_the_request_came_are_not_held_against_it),
        cmocka_unit_test(workers_that_spoke_on_without_having_seen_the_request_did_not_die_of_it),
        cmocka_unit_test(a_worker_that_turns_up_again_was_not_killed),
        cmocka_unit_test(sessions_that_ran_well_before_their_worker_died_are_placed_again_together),
        cmocka_unit_test(two_connections_lost_at_once_are_no_deaths_if_the_workers_turn_up_again),
        cmocka_unit_test(what_an_earlier_attempt_still_says_is_dropped_and_cancelled),
        cmocka_unit_test(a_process_that_reconnects_gets_sync_and_goes_on_with_the_same_attempt),
        cmocka_unit_test(a_new_incarnation_under_the_same_name_kills_the_old_at_once),
        cmocka_unit_test(a_late_hello_of_an_older_connection_does_not_displace_the_newer),
        cmocka_unit_test(a_generate_or_an_accepted_that_is_lost_is_mended_by_asking_again),
        cmocka_unit_test(a_refusal_sends_it_elsewhere_and_a_final_one_ends_it),
        cmocka_unit_test(refused_by_everyone_it_comes_back_after_a_pause_a_bounded_number_of_times),
        cmocka_unit_test(only_a_replica_of_the_same_fingerprint_goes_on_with_a_stream),
        cmocka_unit_test(a_deadline_ends_what_waits_and_what_runs),
        cmocka_unit_test(a_replica_holds_a_few_more_than_its_slots_and_the_rest_wait_here),
        cmocka_unit_test(other_routers_requests_on_a_replica_count_as_load),
        cmocka_unit_test(the_events_of_a_life_come_in_order_and_the_view_tells_all),
        cmocka_unit_test(a_done_before_its_records_asks_for_them),
        cmocka_unit_test(a_worker_that_contradicts_itself_loses_the_attempt),
        cmocka_unit_test(an_answer_that_ends_cancelled_though_nobody_cancelled_it_goes_on_as_the_next_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
