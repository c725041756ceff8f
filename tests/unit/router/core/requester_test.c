// Requesters over scripted links: clients, owners of relayed streams, pins.
#include "tests/unit/router/core/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// --- clients on links

static void a_client_is_served_over_its_link_until_it_acknowledges_done(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    const struct msg_accepted *accepted = &world_heard(&w, client, MSG_ACCEPTED)->m.accepted;
    assert_int_equal(accepted->attempt.counter, 1);
    assert_int_equal(accepted->prompt_tokens, 10);
    script_tokens(&w, a, &g, 0, 3);
    assert_int_equal(world_heard(&w, client, MSG_TOKENS)->n_records, 3);
    script_done(&w, a, &g, 3);
    struct msg_done done = world_heard(&w, client, MSG_DONE)->m.done;
    assert_int_equal(done.n_tokens, 3);
    world_run(&w, 2000);
    assert_true(world_count(&w, client, MSG_DONE) >= 2); // repeated until acknowledged
    assert_false(router_core_idle(w.core));
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = done.attempt, .next = 3, .done = true}};
    world_say(&w, client, &ack);
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

static void a_client_sees_the_next_attempt_as_a_later_accepted(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = g.attempt, .next = 3}};
    world_say(&w, client, &ack);
    link_id b = script_worker(&w, "b", 4);
    router_core_link_closed(w.core, a, w.now);
    world_run(&w, 1);
    struct msg_generate second = *script_generate(&w, b);
    world_forget(&w);
    script_tokens(&w, b, &second, 3, 2);
    assert_int_equal(world_heard(&w, client, MSG_ACCEPTED)->m.accepted.attempt.counter, 2);
    const struct captured *tokens = world_heard(&w, client, MSG_TOKENS);
    assert_int_equal(tokens->m.tokens.offset, 3);
    assert_int_equal(tokens->m.tokens.attempt.counter, 2);
    assert_int_equal(tokens->first_token, world_token(g.seed, 3));
    m = (struct msg){.kind = MSG_CANCEL, .cancel = {.key = g.key}};
    world_say(&w, client, &m);
    assert_int_equal(world_heard(&w, client, MSG_DONE)->m.done.finish, FINISH_CANCELLED);
    assert_non_null(world_heard(&w, b, MSG_CANCEL));
    ack.ack.attempt = second.attempt, ack.ack.next = 5, ack.ack.done = true;
    world_say(&w, client, &ack);
    world_fini(&w);
}

static void a_client_that_comes_back_in_time_goes_on_and_one_that_does_not_is_cancelled(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    router_core_link_closed(w.core, client, w.now);
    world_run(&w, 900);
    world_say_ready(&w, a, "m", 4, 2);
    script_tokens(&w, a, &g, 3, 2);
    link_id back = world_script(&w, ROLE_CLIENT, "", "", false);
    struct sync_entry entries[2] = {{g.key, g.attempt, 2}, {{.choice = 9}, {0}, 0}};
    m = (struct msg){.kind = MSG_SYNC, .sync = {.n_entries = 2, .entries = entries}};
    world_say(&w, back, &m);
    assert_int_equal(world_heard(&w, back, MSG_TOKENS)->m.tokens.offset, 2);
    assert_int_equal(world_heard(&w, back, MSG_TOKENS)->n_records, 3);
    assert_int_equal(world_count(&w, back, MSG_UNKNOWN), 1);
    router_core_link_closed(w.core, back, w.now);
    for (uint32_t i = 0; i < 11; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 3 + i);
    assert_non_null(world_heard(&w, a, MSG_CANCEL));
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

static void keep_keeps_a_stream_for_thirty_seconds(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    m.generate.keep = true;
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    router_core_link_closed(w.core, client, w.now);
    uint32_t seq = 2;
    for (uint32_t i = 0; i < 145; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, seq++);
    assert_false(router_core_idle(w.core));
    for (uint32_t i = 0; i < 10; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, seq++);
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

static void a_repeated_generate_attaches_and_never_starts_twice(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    world_say(&w, client, &m);
    world_say(&w, client, &m);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 1);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 4);
    link_id other = world_script(&w, ROLE_CLIENT, "", "", false);
    struct record held[2] = {{.token = world_token(g.seed, 0)}, {.token = world_token(g.seed, 1)}};
    m.generate.records = (struct records){.array = held, .count = 2};
    world_forget(&w);
    world_say(&w, other, &m);
    assert_non_null(world_heard(&w, other, MSG_ACCEPTED));
    assert_int_equal(world_heard(&w, other, MSG_TOKENS)->m.tokens.offset, 2);
    assert_int_equal(world_count(&w, a, MSG_GENERATE), 0);
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.requests, 1);
    router_core_link_closed(w.core, other, w.now);
    for (uint32_t i = 0; i < 11; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 2 + i);
    world_fini(&w);
}

static void a_client_that_resumes_at_a_new_router_sends_its_records_along(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    struct record held[3] = {{.token = world_token(9, 0)}, {.token = world_token(9, 1)}, {.token = world_token(9, 2)}};
    m.generate.has_seed = true, m.generate.seed = 9;
    m.generate.records = (struct records){.array = held, .count = 3};
    world_say(&w, client, &m);
    assert_int_equal(world_heard(&w, a, MSG_GENERATE)->n_records, 3);
    struct msg_generate g = *script_generate(&w, a);
    assert_true(g.seed == 9);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 3, 2);
    assert_int_equal(world_heard(&w, client, MSG_TOKENS)->m.tokens.offset, 3);
    script_done(&w, a, &g, 5);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = g.attempt, .next = 5, .done = true}};
    world_say(&w, client, &ack);
    world_fini(&w);
}

static void a_stream_that_another_router_has_taken_over_ends_here(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    struct msg superseded = {.kind = MSG_SUPERSEDED, .superseded = {g.key, g.attempt, {0, 1, 999}}};
    world_say(&w, a, &superseded); // by an earlier one: nonsense
    assert_null(world_heard(&w, client, MSG_REJECTED));
    superseded.superseded.by = (struct attempt){1, 1, 4242};
    world_say(&w, a, &superseded);
    assert_int_equal(world_heard(&w, client, MSG_REJECTED)->m.rejected.error.id, ERR_SUPERSEDED);
    world_fini(&w);
}

static void a_client_that_comes_back_too_late_gets_later_attempts(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    world_say(&w, client, &m);
    assert_int_equal(script_generate(&w, a)->attempt.counter, 1);
    router_core_link_closed(w.core, client, w.now);
    for (uint32_t i = 0; i < 11; i++) world_run(&w, 200), world_say_ready(&w, a, "m", 4, 2 + i);
    assert_true(router_core_idle(w.core));
    client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    assert_int_equal(g.attempt.counter, 2); // the worker still has the first, cancelled
    script_finish(&w, a, &g, 0, 3);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = g.attempt, .next = 3, .done = true}};
    world_say(&w, client, &ack);
    world_fini(&w);
}

static void a_client_that_has_moved_takes_its_stream_from_the_router_in_between(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    link_id owner = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = script_client_generate(1), relayed = m;
    world_say(&w, client, &m);
    assert_true(script_generate(&w, a)->attempt.router == 1000);
    relayed.generate.hops = 1, relayed.generate.attempt = (struct attempt){1, 1, 4242}; // it went to r2, which relays to us
    world_say(&w, owner, &relayed);
    assert_non_null(world_heard(&w, client, MSG_SUPERSEDED));
    assert_true(script_generate(&w, a)->attempt.router == 4242);
    world_forget(&w);
    world_say(&w, client, &m); // late or doubled: from before the move
    assert_non_null(world_heard(&w, client, MSG_SUPERSEDED));
    m.generate.attempt.takeover = 2; // and back
    world_say(&w, client, &m);
    assert_non_null(world_heard(&w, owner, MSG_SUPERSEDED));
    struct attempt last = script_generate(&w, a)->attempt;
    assert_true(last.takeover == 2 && last.counter == 2 && last.router == 1000);
    world_forget(&w);
    world_say(&w, client, &m);
    assert_null(script_generate(&w, a));
    router_core_link_closed(w.core, client, w.now);
    router_core_link_closed(w.core, a, w.now);
    world_run(&w, 2100);
    world_fini(&w);
}

static void an_http_client_with_keep_that_leaves_is_waited_for(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct msg m = script_client_generate(1);
    struct msg_rejected rejected;
    m.generate.keep = true;
    struct session *s = router_core_submit(w.core, &m.generate, NULL, &rejected, w.now);
    struct msg_generate g = *script_generate(&w, a);
    router_core_cancel(w.core, s, w.now);
    router_core_check(w.core);
    assert_null(world_heard(&w, a, MSG_CANCEL));
    script_accepted(&w, a, &g);
    script_finish(&w, a, &g, 0, 5);
    link_id client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_say(&w, client, &m);
    assert_int_equal(world_heard(&w, client, MSG_TOKENS)->n_records, 5);
    assert_int_equal(world_heard(&w, client, MSG_DONE)->m.done.n_tokens, 5);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = g.attempt, .next = 5, .done = true}};
    world_say(&w, client, &ack);
    world_fini(&w);
}

// --- relaying

static link_id peer_link(struct world *w) { return world_script(w, ROLE_ROUTER, "r2", "there", false); }

static struct msg relayed_generate(uint8_t id, uint32_t counter) {
    struct msg m = script_client_generate(id);
    m.generate.hops = 1;
    m.generate.has_seed = true;
    m.generate.attempt = (struct attempt){0, counter, 4242};
    return m;
}

static void a_relayed_request_keeps_its_attempt_and_is_placed_once(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), owner = peer_link(&w);
    script_worker(&w, "b", 4);
    struct msg m = relayed_generate(1, 3);
    world_say(&w, owner, &m);
    link_id at = script_generate(&w, a) ? a : a + 2;
    struct msg_generate g = *script_generate(&w, at);
    assert_true(attempt_equal(&g.attempt, &m.generate.attempt));
    assert_int_equal(g.hops, 1);
    script_accepted(&w, at, &g);
    script_tokens(&w, at, &g, 0, 2);
    assert_int_equal(world_heard(&w, owner, MSG_TOKENS)->m.tokens.attempt.counter, 3);
    world_forget(&w);
    router_core_link_closed(w.core, at, w.now);
    const struct captured *rejected = world_heard(&w, owner, MSG_REJECTED);
    assert_int_equal(rejected->m.rejected.kills, 1);
    assert_int_equal(rejected->m.rejected.error.id, ERR_WORKER_LOST);
    assert_true(attempt_equal(&rejected->m.rejected.attempt, &m.generate.attempt));
    assert_null(script_generate(&w, a));
    assert_null(script_generate(&w, a + 2));
    world_fini(&w);
}

static void of_two_relayed_attempts_the_later_wins(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), owner = peer_link(&w);
    struct msg second = relayed_generate(1, 2), first = relayed_generate(1, 1), third = relayed_generate(1, 3);
    world_say(&w, owner, &second);
    world_say(&w, owner, &first);
    const struct msg_superseded *s = &world_heard(&w, owner, MSG_SUPERSEDED)->m.superseded;
    assert_int_equal(s->attempt.counter, 1);
    assert_int_equal(s->by.counter, 2);
    world_say(&w, owner, &third);
    assert_int_equal(world_heard(&w, a, MSG_CANCEL)->m.cancel.attempt.counter, 2);
    assert_int_equal(script_generate(&w, a)->attempt.counter, 3);
    struct msg cancel = {.kind = MSG_CANCEL, .cancel = {third.generate.key, third.generate.attempt}};
    world_say(&w, owner, &cancel);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = third.generate.key, .attempt = third.generate.attempt, .done = true}};
    world_say(&w, owner, &ack);
    world_fini(&w);
}

static void a_relayed_request_is_never_forwarded_again(void **state) {
    struct world w;
    script_world(&w);
    link_id peer = world_script(&w, ROLE_ROUTER, "r3", "elsewhere", true), owner = peer_link(&w);
    world_say_ready(&w, peer, "m", 8, 1);
    struct msg m = relayed_generate(1, 1);
    world_say(&w, owner, &m);
    assert_null(script_generate(&w, peer));
    assert_int_equal(world_heard(&w, owner, MSG_REJECTED)->m.rejected.error.id, ERR_UNAVAILABLE);
    m = relayed_generate(2, 1);
    m.generate.hops = 2;
    world_say(&w, owner, &m);
    assert_int_equal(world_heard(&w, owner, MSG_REJECTED)->m.rejected.error.id, ERR_INVALID_ARGUMENT);
    struct msg own = script_client_generate(3);
    link_id client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_say(&w, client, &own);
    assert_int_equal(script_generate(&w, peer)->hops, 1); // a client's is
    struct msg_generate g = *script_generate(&w, peer);
    script_done(&w, peer, &g, 0);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = g.attempt, .done = true}};
    world_say(&w, client, &ack);
    world_fini(&w);
}

static void a_stream_whose_client_is_gone_does_not_hold_up_a_router_that_leaves(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), c = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    m.generate.keep = true;
    world_say(&w, c, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    router_core_drain(w.core, w.now);
    assert_false(router_core_may_end(w.core));
    router_core_link_closed(w.core, c, w.now);
    assert_true(router_core_may_end(w.core));
    assert_false(router_core_idle(w.core));
    world_run(&w, 32000); // kept for it, in vain
    world_fini(&w);
}

static void a_peer_hears_the_sum_of_the_own_regions_replicas(void **state) {
    struct world w;
    script_world(&w);
    script_worker(&w, "a", 4);
    script_worker(&w, "b", 8);
    link_id owner = peer_link(&w);
    world_run(&w, 100);
    const struct msg_status *s = &world_heard(&w, owner, MSG_STATUS)->m.status;
    assert_int_equal(s->n_deployments, 1);
    assert_true(s->has_life && s->state == LIFECYCLE_READY);
    world_forget(&w);
    router_core_drain(w.core, w.now);
    assert_int_equal(world_heard(&w, owner, MSG_STATUS)->m.status.state, LIFECYCLE_DRAINING);
    world_fini(&w);
}

static void the_sum_of_fast_replicas_is_a_rate_that_can_be_told(void **state) {
    struct world w;
    script_world(&w);
    for (uint32_t i = 0; i < 3; i++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "w%u", i);
        struct deployment_status d = {.groups = STATUS_RATES, .prefill_rate = 0.5e9f, .decode_rate = 1000};
        struct msg m = {.kind = MSG_STATUS, .status = {.seq = 2, .n_deployments = 1, .deployments = &d}};
        world_say(&w, script_worker(&w, name, 4), &m);
    }
    link_id owner = peer_link(&w);
    world_run(&w, 100);
    float told = world_heard(&w, owner, MSG_STATUS)->prefill_rate;
    assert_true(told > 0.99e9f && told <= RATE_MAX);
    world_fini(&w);
}

static void a_request_that_killed_a_worker_at_a_peer_and_one_here_is_refused(void **state) {
    struct world w;
    script_world(&w);
    link_id peer = world_script(&w, ROLE_ROUTER, "r3", "elsewhere", true);
    world_say_ready(&w, peer, "m", 8, 1);
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    struct msg_generate g = *script_generate(&w, peer);
    link_id a = script_worker(&w, "a", 4);
    script_rejected(&w, peer, &g, ERR_WORKER_LOST, 1);
    struct msg_generate second = *script_generate(&w, a);
    assert_int_equal(second.attempt.counter, 2);
    script_accepted(&w, a, &second);
    router_core_link_closed(w.core, a, w.now);
    world_run(&w, 2000);
    assert_true(r->failed && r->error == ERR_POISON_REQUEST);
    world_fini(&w);
}

// --- pins

static void a_pin_goes_to_that_replica_only(void **state) {
    struct world w;
    script_world(&w);
    script_worker(&w, "a", 4);
    link_id b = script_worker(&w, "b", 4);
    for (uint32_t i = 0; i < 4; i++) world_submit_pinned(&w, "m", 8, "b");
    assert_int_equal(world_count(&w, b, MSG_GENERATE), 4);
    struct request *r = world_submit_pinned(&w, "m", 8, "nobody");
    assert_true(r->refused && r->error == ERR_NOT_FOUND);
    for (uint32_t i = 0; i < 4; i++) {
        router_core_cancel(w.core, w.requests[i].session, w.now);
        w.requests[i].session = NULL;
    }
    world_fini(&w);
}

static void a_pin_to_a_replica_of_another_region_tries_each_peer(void **state) {
    struct world w;
    script_world(&w);
    script_worker(&w, "a", 4);
    link_id p = world_script(&w, ROLE_ROUTER, "r3", "elsewhere", true), q = world_script(&w, ROLE_ROUTER, "r4", "far", true);
    world_say_ready(&w, p, "m", 8, 1);
    world_say_ready(&w, q, "m", 8, 1);
    struct request *r = world_submit_pinned(&w, "m", 8, "remote");
    link_id first = script_generate(&w, p) ? p : q, second = first == p ? q : p;
    struct msg_generate g = *script_generate(&w, first);
    assert_string_equal(g.pin, "remote");
    script_rejected(&w, first, &g, ERR_NOT_FOUND, 0);
    g = *script_generate(&w, second);
    script_rejected(&w, second, &g, ERR_NOT_FOUND, 0);
    assert_true(r->failed && r->error == ERR_NOT_FOUND);
    world_fini(&w);
}

static link_id tenants_client(struct world *w, const char *tenant) {
    link_id client = world_script(w, ROLE_CLIENT, "", "", false);
    router_core_link_tenant(w->core, client, tenant);
    return client;
}

static void another_tenants_stream_does_not_exist_for_a_client(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), shop = tenants_client(&w, "shop"), lab = tenants_client(&w, "lab");
    struct msg m = script_client_generate(1);
    snprintf(m.generate.tenant, NAME_SIZE, "shop");
    world_say(&w, shop, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    snprintf(m.generate.tenant, NAME_SIZE, "lab"); // as the shell puts it there, whatever the client claims
    for (uint32_t takeover = 0; takeover < 2; takeover++) {
        m.generate.attempt.takeover = takeover;
        world_say(&w, lab, &m);
        assert_int_equal(world_count(&w, lab, MSG_REJECTED), takeover + 1);
    }
    struct sync_entry entry = {.key = g.key, .attempt = g.attempt};
    struct msg sync = {.kind = MSG_SYNC, .sync = {.n_entries = 1, .entries = &entry}};
    world_say(&w, lab, &sync);
    struct msg cancel = {.kind = MSG_CANCEL, .cancel = {.key = g.key}};
    world_say(&w, lab, &cancel);
    assert_int_equal(world_count(&w, lab, MSG_UNKNOWN), 2);
    assert_int_equal(world_count(&w, lab, MSG_TOKENS) + world_count(&w, lab, MSG_ACCEPTED), 0);
    world_say(&w, shop, &sync); // its owner's still is
    assert_int_equal(world_count(&w, shop, MSG_UNKNOWN), 0);
    script_done(&w, a, &g, 3);
    assert_int_equal(world_heard(&w, shop, MSG_DONE)->m.done.n_tokens, 3);
    assert_int_equal(world_count(&w, lab, MSG_DONE), 0);
    struct msg ack = {.kind = MSG_ACK, .ack = {.key = g.key, .attempt = g.attempt, .next = 3, .done = true}};
    world_say(&w, lab, &ack);
    assert_false(router_core_idle(w.core));
    world_say(&w, shop, &ack);
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_is_served_over_its_link_until_it_acknowledges_done),
        cmocka_unit_test(a_client_sees_the_next_attempt_as_a_later_accepted),
        cmocka_unit_test(another_tenants_stream_does_not_exist_for_a_client),
        cmocka_unit_test(a_client_that_comes_back_in_time_goes_on_and_one_that_does_not_is_cancelled),
        cmocka_unit_test(keep_keeps_a_stream_for_thirty_seconds),
        cmocka_unit_test(a_repeated_generate_attaches_and_never_starts_twice),
        cmocka_unit_test(a_client_that_resumes_at_a_new_router_sends_its_records_along),
        cmocka_unit_test(a_stream_that_another_router_has_taken_over_ends_here),
        cmocka_unit_test(a_client_that_comes_back_too_late_gets_later_attempts),
        cmocka_unit_test(a_client_that_has_moved_takes_its_stream_from_the_router_in_between),
        cmocka_unit_test(an_http_client_with_keep_that_leaves_is_waited_for),
        cmocka_unit_test(a_relayed_request_keeps_its_attempt_and_is_placed_once),
        cmocka_unit_test(of_two_relayed_attempts_the_later_wins),
        cmocka_unit_test(a_relayed_request_is_never_forwarded_again),
        cmocka_unit_test(a_stream_whose_client_is_gone_does_not_hold_up_a_router_that_leaves),
        cmocka_unit_test(a_peer_hears_the_sum_of_the_own_regions_replicas),
        cmocka_unit_test(the_sum_of_fast_replicas_is_a_rate_that_can_be_told),
        cmocka_unit_test(a_request_that_killed_a_worker_at_a_peer_and_one_here_is_refused),
        cmocka_unit_test(a_pin_goes_to_that_replica_only),
        cmocka_unit_test(a_pin_to_a_replica_of_another_region_tries_each_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
