// Streams that are asked for by name: clients that come back after a router's death, and the routers that ask for them.
#include "tests/unit/router/core/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t SEED = 42;

static struct msg_generate request(uint8_t id) {
    struct msg_generate g = {.max_tokens = 8, .prompt_bytes = 40, .has_seed = true, .seed = SEED};
    memset(g.key.request.bytes, 0xd0, sizeof g.key.request.bytes);
    g.key.request.bytes[0] = id;
    snprintf(g.model, sizeof g.model, "m");
    g.body = (const uint8_t *)"body";
    g.body_len = 4;
    return g;
}

// As the HTTP front does for a client that comes back. total: records of the whole answer.
static struct request *resume(struct world *w, const struct msg_generate *g, const char *replica, uint32_t total) {
    uint32_t index = w->n_requests++;
    struct request *r = &w->requests[index];
    *r = (struct request){.total = total, .submitted_at = w->now, .deadline_at = MS_NEVER, .key = g->key};
    struct router_resume how = {.takeover = 1};
    snprintf(how.replica, sizeof how.replica, "%s", replica);
    struct msg_rejected rejected;
    r->session = router_core_resume(w->core, g, &how, (void *)(uintptr_t)index, &rejected, w->now);
    if (r->session == NULL) {
        r->refused = true;
        r->error = rejected.error.id;
        w->n_refused++, w->n_ended++;
    }
    router_core_check(w->core);
    return r;
}

static const struct msg_attach *heard_attach(const struct world *w, link_id link) {
    const struct captured *c = world_heard(w, link, MSG_ATTACH);
    return c ? &c->m.attach : NULL;
}

static struct msg_generate as_generate(const struct msg_attach *a) {
    return (struct msg_generate){.key = a->key, .attempt = a->attempt, .seed = SEED, .has_seed = true};
}

static void say_unknown(struct world *w, link_id link, const struct msg_attach *a) {
    struct msg m = {.kind = MSG_UNKNOWN, .unknown = {a->key, a->attempt}};
    world_say(w, link, &m);
}

static link_id script_peer(struct world *w, const char *name) {
    link_id link = world_script(w, ROLE_ROUTER, name, "there", true);
    world_say_ready(w, link, "m", 4, 1);
    return link;
}

static void the_candidate_that_had_it_is_asked_first_and_goes_on(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), b = script_worker(&w, "b", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "b", 5);
    assert_null(heard_attach(&w, a));
    const struct msg_attach *asked = heard_attach(&w, b);
    assert_int_equal(asked->attempt.takeover, 1);
    assert_int_equal(asked->next, 0);
    assert_true(asked->asks == generate_asks(&g));
    struct msg_generate there = as_generate(asked);
    script_accepted(&w, b, &there);
    assert_true(r->accepted);
    script_finish(&w, b, &there, 0, 5);
    assert_true(r->done);
    assert_null(script_generate(&w, a));
    assert_null(script_generate(&w, b));
    world_fini(&w);
}

static void who_has_it_is_found_though_its_accepted_was_lost(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "", 5);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    script_finish(&w, a, &there, 0, 5);
    assert_true(r->accepted && r->done);
    world_fini(&w);
}

static void then_the_others_here_then_the_peers_and_then_it_is_made_anew(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), b = script_worker(&w, "b", 4), c = script_worker(&w, "c", 4);
    link_id peer = script_peer(&w, "far");
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "b", 5);
    say_unknown(&w, b, heard_attach(&w, b));
    assert_null(heard_attach(&w, peer));
    say_unknown(&w, a, heard_attach(&w, a));
    say_unknown(&w, a, heard_attach(&w, a)); // twice is once
    assert_null(heard_attach(&w, peer));
    say_unknown(&w, c, heard_attach(&w, c));
    assert_int_equal(world_count(&w, b, MSG_ATTACH), 1);
    assert_int_equal(heard_attach(&w, peer)->hops, 1);
    assert_string_equal(heard_attach(&w, peer)->model, "m");
    struct attempt asked = heard_attach(&w, peer)->attempt;
    say_unknown(&w, peer, heard_attach(&w, peer));
    link_id links[] = {a, b, c, peer};
    for (int i = 0; i < 4; i++) {
        const struct msg_generate *there = script_generate(&w, links[i]);
        if (there == NULL) continue;
        struct msg_generate copy = *there;
        assert_true(copy.seed == SEED && attempt_compare(&copy.attempt, &asked) > 0);
        script_accepted(&w, links[i], &copy);
        script_finish(&w, links[i], &copy, 0, 5);
    }
    assert_true(r->done);
    world_fini(&w);
}

static void silence_is_waited_for_only_so_long(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), b = script_worker(&w, "b", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "a", 5);
    world_run(&w, 400);
    world_say_ready(&w, a, "m", 4, 2), world_say_ready(&w, b, "m", 4, 2);
    assert_null(heard_attach(&w, b));
    world_run(&w, 101);
    assert_non_null(heard_attach(&w, b));
    world_run(&w, 400);
    world_say_ready(&w, a, "m", 4, 3), world_say_ready(&w, b, "m", 4, 3);
    world_run(&w, 101);
    link_id chosen = script_generate(&w, a) ? a : b;
    struct msg_generate there = *script_generate(&w, chosen);
    // Now the first one says that it has it, under the attempt of the question: too late.
    struct msg_generate late = as_generate(heard_attach(&w, chosen == a ? b : a));
    script_tokens(&w, chosen == a ? b : a, &late, 0, 2);
    assert_non_null(world_heard(&w, chosen == a ? b : a, MSG_CANCEL));
    script_accepted(&w, chosen, &there);
    script_finish(&w, chosen, &there, 0, 5);
    assert_true(r->done);
    world_fini(&w);
}

static void of_two_that_have_it_one_is_taken_and_the_other_stops(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), b = script_worker(&w, "b", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "", 5);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    script_accepted(&w, a, &there);
    script_accepted(&w, b, &there);
    script_tokens(&w, b, &there, 0, 2);
    assert_non_null(world_heard(&w, b, MSG_CANCEL));
    assert_null(world_heard(&w, a, MSG_CANCEL));
    script_finish(&w, a, &there, 0, 5);
    assert_true(r->done);
    world_fini(&w);
}

static void a_later_attempt_somewhere_is_outbid(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "a", 5);
    const struct msg_attach *asked = heard_attach(&w, a);
    struct msg m = {.kind = MSG_SUPERSEDED, .superseded = {asked->key, asked->attempt, {7, 3, 99}}};
    world_say(&w, a, &m);
    asked = heard_attach(&w, a);
    assert_int_equal(asked->attempt.takeover, 8);
    struct msg_generate there = as_generate(asked);
    script_accepted(&w, a, &there);
    script_finish(&w, a, &there, 0, 5);
    assert_true(r->done);
    world_fini(&w);
}

static void who_is_always_outbid_makes_the_answer_anew(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    resume(&w, &g, "a", 5);
    for (int i = 0; i < 10 && script_generate(&w, a) == NULL; i++) {
        const struct msg_attach *asked = heard_attach(&w, a);
        struct msg m = {.kind = MSG_SUPERSEDED, .superseded = {asked->key, asked->attempt, asked->attempt}};
        m.superseded.by.takeover++;
        world_say(&w, a, &m);
    }
    assert_non_null(script_generate(&w, a));
    struct msg_generate there = *script_generate(&w, a);
    script_accepted(&w, a, &there);
    script_finish(&w, a, &there, 0, 5);
    world_fini(&w);
}

static void another_request_of_that_name_is_refused(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "a", 5);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    script_rejected(&w, a, &there, ERR_KEY_REUSED, 0);
    assert_true(r->failed);
    assert_int_equal(r->error, ERR_KEY_REUSED);
    world_fini(&w);
}

static void without_a_replica_of_the_fingerprint_it_is_lost(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4); // fingerprint "f"
    struct msg_generate g = request(1);
    snprintf(g.fingerprint, sizeof g.fingerprint, "older");
    struct request *r = resume(&w, &g, "a", 5);
    assert_true(r->failed);
    assert_int_equal(r->error, ERR_RESUME_LOST);
    assert_null(heard_attach(&w, a));
    world_fini(&w);
}

static void a_client_that_leaves_while_we_ask_leaves_nothing(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "a", 5);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    router_core_cancel(w.core, r->session, w.now);
    r->session = NULL;
    assert_true(router_core_idle(w.core));
    script_accepted(&w, a, &there);
    script_tokens(&w, a, &there, 0, 2);
    assert_non_null(world_heard(&w, a, MSG_CANCEL));
    world_fini(&w);
}

// --- joining what is here

static void a_second_reader_gets_the_session_that_there_is(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    struct request *first = resume(&w, &g, "a", 5);
    struct router_resume how = {.takeover = 1};
    struct msg_rejected rejected;
    struct session *again = router_core_resume(w.core, &g, &how, (void *)77, &rejected, w.now);
    assert_ptr_equal(again, first->session);
    assert_ptr_equal(session_user(again), (void *)0);
    g.body = (const uint8_t *)"else";
    assert_null(router_core_resume(w.core, &g, &how, (void *)77, &rejected, w.now));
    assert_int_equal(rejected.error.id, ERR_KEY_REUSED);
    g.body = (const uint8_t *)"body";
    snprintf(g.tenant, sizeof g.tenant, "another");
    assert_null(router_core_resume(w.core, &g, &how, (void *)77, &rejected, w.now));
    assert_int_equal(rejected.error.id, ERR_INVALID_ARGUMENT);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    script_accepted(&w, a, &there);
    script_finish(&w, a, &there, 0, 5);
    world_fini(&w);
}

static void with_keep_it_goes_on_without_a_client_and_is_there_after_its_end(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = request(1);
    g.keep = true;
    struct request *first = resume(&w, &g, "a", 5);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    script_accepted(&w, a, &there);
    script_tokens(&w, a, &there, 0, 2);
    router_core_cancel(w.core, first->session, w.now);
    struct session *s = first->session;
    first->session = NULL;
    assert_null(world_heard(&w, a, MSG_CANCEL));
    script_finish(&w, a, &there, 2, 5);
    struct request *second = resume(&w, &g, "", 5);
    assert_ptr_equal(second->session, s);
    struct session_view v = session_view(s);
    assert_int_equal(v.state, SESSION_ENDED);
    assert_int_equal(record_log_count(v.log), 5);
    assert_int_equal(v.done->n_tokens, 5);
    router_core_release(w.core, s, w.now);
    second->session = NULL;
    assert_false(router_core_idle(w.core));
    for (uint32_t i = 0; i < 160; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 2 + i);
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

static void a_router_that_drains_keeps_no_answer_that_nobody_reads(void **state) {
    for (int ends_first = 0; ends_first < 2; ends_first++) {
        struct world w;
        script_world(&w);
        link_id a = script_worker(&w, "a", 4);
        struct msg_generate g = request(1);
        g.keep = true;
        struct request *r = resume(&w, &g, "a", 5);
        struct msg_generate there = as_generate(heard_attach(&w, a));
        script_accepted(&w, a, &there);
        script_tokens(&w, a, &there, 0, 2);
        router_core_cancel(w.core, r->session, w.now);
        r->session = NULL;
        if (ends_first) script_finish(&w, a, &there, 2, 5);
        assert_false(router_core_idle(w.core));
        router_core_drain(w.core, w.now);
        if (!ends_first) script_finish(&w, a, &there, 2, 5);
        assert_true(router_core_idle(w.core));
        world_fini(&w);
    }
}

static void no_more_than_so_many_are_kept_after_their_end(void **state) {
    struct world w;
    script_world(&w);
    w.check = false;
    link_id a = script_worker(&w, "a", 4);
    for (uint32_t i = 0; i < 1024 + 5; i++) {
        struct msg_generate g = request(1);
        g.keep = true;
        memcpy(g.key.request.bytes + 4, &i, sizeof i);
        struct request *r = resume(&w, &g, "a", 1);
        struct msg_generate there = as_generate(heard_attach(&w, a));
        script_finish(&w, a, &there, 0, 1);
        router_core_release(w.core, r->session, w.now);
        r->session = NULL;
    }
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.sessions, 1024);
    for (uint32_t i = 0; i < 160; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 2 + i);
    world_fini(&w);
}

static void what_is_kept_after_its_end_takes_no_room_of_new_ones(void **state) {
    struct world w;
    struct router_core_options o;
    world_options(&o);
    o.sessions_max = 1;
    o.held_bytes_max = 1;
    world_init(&w, &o);
    w.check = true;
    link_id a = script_worker(&w, "a", 4);
    for (uint8_t i = 1; i <= 3; i++) {
        struct msg_generate g = request(i);
        g.keep = true;
        struct request *r = resume(&w, &g, "a", 1);
        assert_non_null(r->session); // although the one before is still there for its client
        struct msg_generate there = as_generate(heard_attach(&w, a));
        script_finish(&w, a, &there, 0, 1);
        router_core_release(w.core, r->session, w.now);
        r->session = NULL;
        world_forget(&w);
    }
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_true(c.refused == 0 && c.sessions >= 1);
    for (uint32_t i = 0; i < 160; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 2 + i);
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

// --- peers

static struct msg peer_attach(uint8_t id, uint32_t takeover, incarnation_t owner) {
    struct msg_generate g = request(id);
    struct msg m = {.kind = MSG_ATTACH, .attach = {.key = g.key, .attempt = {takeover, 1, owner}, .hops = 1}};
    m.attach.asks = generate_asks(&g);
    snprintf(m.attach.model, NAME_SIZE, "m");
    snprintf(m.attach.deployment, NAME_SIZE, "d");
    return m;
}

static void a_peer_looks_among_its_replicas_and_relays_what_it_finds(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), other = script_peer(&w, "third");
    link_id owner = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = peer_attach(1, 1, 500);
    world_say(&w, owner, &m);
    const struct msg_attach *asked = heard_attach(&w, a);
    assert_int_equal(asked->hops, 0);
    assert_int_equal(asked->attempt.router, 500);
    struct msg_generate there = as_generate(asked);
    script_accepted(&w, a, &there);
    assert_true(attempt_equal(&world_heard(&w, owner, MSG_ACCEPTED)->m.accepted.attempt, &m.attach.attempt));
    script_tokens(&w, a, &there, 0, 3);
    assert_int_equal(world_heard(&w, owner, MSG_TOKENS)->n_records, 3);
    script_finish(&w, a, &there, 3, 5);
    struct msg ack = {.kind = MSG_ACK, .ack = {there.key, there.attempt, 5, true}};
    world_say(&w, owner, &ack);
    assert_null(heard_attach(&w, other));
    world_fini(&w);
}

static void a_peer_that_finds_nothing_says_so_and_starts_nothing(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), owner = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = peer_attach(1, 1, 500);
    world_say(&w, owner, &m);
    assert_null(world_heard(&w, owner, MSG_UNKNOWN));
    say_unknown(&w, a, heard_attach(&w, a));
    assert_non_null(world_heard(&w, owner, MSG_UNKNOWN));
    assert_true(router_core_idle(w.core));
    m.attach.hops = 0;
    world_say(&w, owner, &m); // not from an owner
    link_id client = world_script(&w, ROLE_CLIENT, "", "", false);
    m.attach.hops = 1;
    world_say(&w, client, &m);
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.protocol_errors, 2);
    assert_null(script_generate(&w, a));
    world_fini(&w);
}

static void what_a_peer_relays_goes_over_to_the_next_owner_with_its_log(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), first = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = {.kind = MSG_GENERATE, .generate = request(1)};
    m.generate.attempt = (struct attempt){0, 1, 500};
    m.generate.hops = 1;
    world_say(&w, first, &m);
    struct msg_generate there = *script_generate(&w, a);
    script_accepted(&w, a, &there);
    script_tokens(&w, a, &there, 0, 3);
    router_core_link_closed(w.core, first, w.now); // the owner dies
    link_id second = world_script(&w, ROLE_ROUTER, "r3", "there", false);
    world_forget(&w);
    m = peer_attach(1, 1, 600);
    world_say(&w, second, &m);
    const struct msg_attach *asked = heard_attach(&w, a); // the worker hears of the new attempt, and goes on
    assert_int_equal(asked->next, 3);
    assert_int_equal(asked->attempt.router, 600);
    assert_int_equal(world_heard(&w, second, MSG_TOKENS)->m.tokens.offset, 0);
    assert_int_equal(world_heard(&w, second, MSG_TOKENS)->n_records, 3);
    struct msg_generate now = as_generate(asked);
    script_accepted(&w, a, &now);
    script_finish(&w, a, &now, 3, 5);
    assert_int_equal(world_heard(&w, second, MSG_DONE)->m.done.n_tokens, 5);
    // A router that comes later still gets all of it, though it has ended; one that comes too late is told.
    link_id third = world_script(&w, ROLE_ROUTER, "r4", "there", false);
    m = peer_attach(1, 2, 700);
    world_say(&w, third, &m);
    assert_int_equal(world_heard(&w, third, MSG_DONE)->m.done.n_tokens, 5);
    assert_non_null(world_heard(&w, second, MSG_SUPERSEDED));
    m = peer_attach(1, 1, 800);
    world_say(&w, second, &m);
    assert_true(attempt_equal(&world_heard(&w, second, MSG_SUPERSEDED)->m.superseded.attempt, &m.attach.attempt));
    m = peer_attach(1, 3, 700);
    m.attach.asks++;
    world_say(&w, third, &m);
    assert_int_equal(world_heard(&w, third, MSG_REJECTED)->m.rejected.error.id, ERR_KEY_REUSED);
    struct msg ack = {.kind = MSG_ACK, .ack = {now.key, {2, 1, 700}, 5, true}};
    world_say(&w, third, &ack);
    world_fini(&w);
}

static void a_client_may_come_to_the_router_that_relayed_for_the_dead_one(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), first = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg_generate g = request(1);
    struct msg m = {.kind = MSG_GENERATE, .generate = g};
    m.generate.attempt = (struct attempt){0, 1, 500};
    m.generate.hops = 1;
    world_say(&w, first, &m);
    struct msg_generate there = *script_generate(&w, a);
    script_accepted(&w, a, &there);
    script_tokens(&w, a, &there, 0, 3);
    router_core_link_closed(w.core, first, w.now);
    struct request *r = resume(&w, &g, "r1", 5);
    assert_non_null(r->session);
    struct msg_generate now = as_generate(heard_attach(&w, a));
    assert_int_equal(now.attempt.router, 1000); // its own now
    assert_int_equal(now.attempt.takeover, 1);
    script_accepted(&w, a, &now);
    script_finish(&w, a, &now, 3, 5);
    assert_true(r->done);
    world_fini(&w);
}

static void a_stream_that_was_found_for_a_dead_router_becomes_the_clients_own(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), owner = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = peer_attach(1, 1, 500);
    world_say(&w, owner, &m);
    struct msg_generate there = as_generate(heard_attach(&w, a));
    script_accepted(&w, a, &there);
    script_tokens(&w, a, &there, 0, 3);
    router_core_link_closed(w.core, owner, w.now);
    struct msg_generate g = request(1);
    struct request *r = resume(&w, &g, "", 5);
    struct msg_generate now = as_generate(heard_attach(&w, a));
    assert_int_equal(now.attempt.takeover, 2);
    link_id b = script_worker(&w, "b", 4); // and the worker dies: the whole request goes to another
    router_core_link_closed(w.core, a, w.now);
    world_run(&w, 1);
    struct msg_generate second = *script_generate(&w, b);
    assert_int_equal(second.body_len, 4);
    assert_int_equal(second.hops, 0);
    assert_true(second.has_seed && second.seed == SEED && second.max_tokens == 8);
    script_accepted(&w, b, &second);
    script_finish(&w, b, &second, 3, 5);
    assert_true(r->done);
    world_fini(&w);
}

// It may run ahead there: only when it doesn't is it placed like any other, with what the client has.
static void a_client_that_was_at_another_router_finds_its_stream_at_its_worker(void **state) {
    (void)state;
    for (int there = 0; there < 2; there++) {
        struct world w;
        script_world(&w);
        link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
        struct record r = {.token = 5, .text = "x", .text_len = 1};
        struct msg m = script_client_generate(1);
        m.generate.attempt.takeover = 1;
        snprintf(m.generate.fingerprint, FINGERPRINT_SIZE, "f");
        m.generate.records = (struct records){.array = &r, .count = 1};
        world_say(&w, client, &m);
        const struct captured *attach = world_heard(&w, a, MSG_ATTACH);
        assert_non_null(attach);
        assert_int_equal(attach->m.attach.next, 1);
        assert_null(world_heard(&w, a, MSG_GENERATE));
        struct msg_generate g = {.key = m.generate.key, .attempt = attach->m.attach.attempt};
        if (there) {
            script_accepted(&w, a, &g);
        } else {
            struct msg unknown = {.kind = MSG_UNKNOWN, .unknown = {g.key, g.attempt}};
            world_say(&w, a, &unknown);
            assert_int_equal(world_heard(&w, a, MSG_GENERATE)->n_records, 1);
            g = *script_generate(&w, a);
            script_accepted(&w, a, &g);
        }
        script_tokens(&w, a, &g, 1, 2);
        const struct captured *tokens = world_heard(&w, client, MSG_TOKENS);
        assert_int_equal(tokens->m.tokens.offset, 1);
        assert_int_equal(tokens->n_records, 2);
        struct msg cancel = {.kind = MSG_CANCEL, .cancel = {.key = m.generate.key}};
        world_say(&w, client, &cancel);
        world_run(&w, 32000); // nobody acknowledges
        world_fini(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_was_at_another_router_finds_its_stream_at_its_worker),
        cmocka_unit_test(the_candidate_that_had_it_is_asked_first_and_goes_on),
        cmocka_unit_test(who_has_it_is_found_though_its_accepted_was_lost),
        cmocka_unit_test(then_the_others_here_then_the_peers_and_then_it_is_made_anew),
        cmocka_unit_test(silence_is_waited_for_only_so_long),
        cmocka_unit_test(of_two_that_have_it_one_is_taken_and_the_other_stops),
        cmocka_unit_test(a_later_attempt_somewhere_is_outbid),
        cmocka_unit_test(who_is_always_outbid_makes_the_answer_anew),
        cmocka_unit_test(another_request_of_that_name_is_refused),
        cmocka_unit_test(without_a_replica_of_the_fingerprint_it_is_lost),
        cmocka_unit_test(a_client_that_leaves_while_we_ask_leaves_nothing),
        cmocka_unit_test(a_second_reader_gets_the_session_that_there_is),
        cmocka_unit_test(with_keep_it_goes_on_without_a_client_and_is_there_after_its_end),
        cmocka_unit_test(a_router_that_drains_keeps_no_answer_that_nobody_reads),
        cmocka_unit_test(no_more_than_so_many_are_kept_after_their_end),
        cmocka_unit_test(what_is_kept_after_its_end_takes_no_room_of_new_ones),
        cmocka_unit_test(a_peer_looks_among_its_replicas_and_relays_what_it_finds),
        cmocka_unit_test(a_peer_that_finds_nothing_says_so_and_starts_nothing),
        cmocka_unit_test(what_a_peer_relays_goes_over_to_the_next_owner_with_its_log),
        cmocka_unit_test(a_client_may_come_to_the_router_that_relayed_for_the_dead_one),
        cmocka_unit_test(a_stream_that_was_found_for_a_dead_router_becomes_the_clients_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
