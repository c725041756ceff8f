// What is let in, what is refused and how; what the router tells about itself; the deliberate bugs.
#include "tests/unit/router/core/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// --- admission

static void an_unknown_model_is_refused_with_the_known_ones_and_an_alias_is_known(void **state) {
    struct world w;
    struct router_core_options o;
    world_options(&o);
    o.n_shares = 1;
    snprintf(o.shares[0].model, NAME_SIZE, "m");
    snprintf(o.shares[0].deployment, NAME_SIZE, "d");
    o.shares[0].share = 1;
    o.shares[0].n_aliases = 1;
    snprintf(o.shares[0].aliases[0], NAME_SIZE, "nickname");
    world_init(&w, &o);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    struct msg m = script_client_generate(1);
    snprintf(m.generate.model, NAME_SIZE, "gpt-9");
    world_say(&w, client, &m);
    const struct msg_rejected *r = &world_heard(&w, client, MSG_REJECTED)->m.rejected;
    assert_int_equal(r->error.id, ERR_MODEL_NOT_FOUND);
    assert_non_null(strstr(r->error.text, "gpt-9"));
    assert_non_null(strstr(r->error.text, "known: m"));
    snprintf(m.generate.model, NAME_SIZE, "nickname");
    world_say(&w, client, &m);
    assert_string_equal(script_generate(&w, a)->model, "m");
    router_core_link_closed(w.core, client, w.now);
    world_run(&w, 2100);
    world_fini(&w);
}

static void without_a_ready_replica_it_waits_for_one_that_loads_and_is_refused_when_all_are_long_gone(void **state) {
    struct world w;
    script_world(&w);
    link_id a = world_script(&w, ROLE_WORKER, "a", "here", false);
    struct deployment_status d = {.groups = STATUS_INFO};
    snprintf(d.info.model, NAME_SIZE, "m");
    snprintf(d.info.deployment, NAME_SIZE, "d");
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = 1, .full = true, .has_life = true, .state = LIFECYCLE_LOADING}};
    m.status.progress = 0.43f, m.status.eta_ms = 20000;
    m.status.n_deployments = 1, m.status.deployments = &d;
    world_say(&w, a, &m);
    char why[128];
    assert_false(router_core_ready(w.core, why, sizeof why));
    assert_string_equal(why, "0 of 1 replicas: loading 43 %, about 20 s");
    struct request *r = world_submit(&w, "m", 2, 8, 40, 0);
    assert_false(r->refused);
    world_say_ready(&w, a, "m", 4, 2);
    assert_true(router_core_ready(w.core, why, sizeof why));
    struct msg_generate g = *script_generate(&w, a);
    script_finish(&w, a, &g, 0, 2);
    assert_true(r->done);
    router_core_link_closed(w.core, a, w.now);
    world_run(&w, 9000);
    r = world_submit(&w, "m", 2, 8, 40, 500); // one was here lately
    assert_false(r->refused);
    world_run(&w, 2000);
    assert_true(r->failed && r->error == ERR_DEADLINE);
    r = world_submit(&w, "m", 2, 8, 40, 500);
    assert_true(r->refused && r->error == ERR_UNAVAILABLE && r->retry_after_ms > 0);
    world_fini(&w);
}

static void a_stream_that_somebody_has_part_of_waits_even_when_all_are_long_gone(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_run(&w, 900);
    router_core_link_closed(w.core, a, w.now);
    world_run(&w, 11000);
    struct record r = {.token = 5, .text = "x", .text_len = 1};
    struct msg m = script_client_generate(1);
    snprintf(m.generate.fingerprint, FINGERPRINT_SIZE, "f");
    m.generate.records = (struct records){.array = &r, .count = 1};
    world_say(&w, client, &m);
    assert_null(world_heard(&w, client, MSG_REJECTED));
    struct msg cancel = {.kind = MSG_CANCEL, .cancel = {.key = m.generate.key}};
    m = script_client_generate(2); // nobody has anything of this one yet
    world_say(&w, client, &m);
    assert_int_equal(world_heard(&w, client, MSG_REJECTED)->m.rejected.error.id, ERR_UNAVAILABLE);
    world_say(&w, client, &cancel);
    world_run(&w, 32000); // nobody acknowledges
    world_fini(&w);
}

static void a_router_that_has_just_started_does_not_refuse_what_its_workers_may_serve_soon(void **state) {
    struct world w;
    struct router_core_options o;
    world_options(&o);
    o.n_shares = 1;
    o.shares[0].share = 1;
    snprintf(o.shares[0].model, NAME_SIZE, "m");
    snprintf(o.shares[0].deployment, NAME_SIZE, "d");
    world_init(&w, &o);
    struct request *r = world_submit(&w, "m", 2, 8, 40, 0);
    assert_false(r->refused);
    link_id a = script_worker(&w, "a", 4);
    struct msg_generate g = *script_generate(&w, a);
    script_finish(&w, a, &g, 0, 2);
    assert_true(r->done);
    world_fini(&w);
}

static void the_limits_of_queue_tokens_and_streams_hold_at_and_past_them(void **state) {
    struct world w;
    struct router_core_options o;
    world_options(&o);
    o.queue_max = 3;
    world_init(&w, &o);
    link_id a = script_worker(&w, "a", 1);
    for (uint32_t i = 0; i < 5; i++) assert_false(world_submit(&w, "m", 8, 8, 40, 0)->refused); // two placed, three wait
    struct request *r = world_submit(&w, "m", 8, 8, 40, 0);
    assert_true(r->refused && r->error == ERR_OVERLOADED && r->retry_after_ms >= 250);
    router_core_link_closed(w.core, a, w.now);
    for (uint32_t i = 0; i < 5; i++) router_core_cancel(w.core, w.requests[i].session, w.now), w.requests[i].session = NULL;
    world_fini(&w);

    o.queue_max = 100, o.queue_tokens_max = 100;
    world_init(&w, &o);
    a = script_worker(&w, "a", 1);
    for (uint32_t i = 0; i < 3; i++) assert_false(world_submit(&w, "m", 8, 8, 396, 0)->refused); // of 100 tokens; one waits
    r = world_submit(&w, "m", 8, 8, 0, 0);
    assert_true(r->refused && r->error == ERR_OVERLOADED);
    for (uint32_t i = 0; i < 3; i++) router_core_cancel(w.core, w.requests[i].session, w.now), w.requests[i].session = NULL;
    world_fini(&w);

    o.queue_tokens_max = 100000, o.held_bytes_max = 64;
    world_init(&w, &o);
    a = script_worker(&w, "a", 8);
    assert_false(world_submit(&w, "m", 8, 8, 4, 0)->refused);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 7);
    r = world_submit(&w, "m", 8, 8, 4, 0);
    assert_true(r->refused && r->error == ERR_OVERLOADED);
    script_finish(&w, a, &g, 7, 8);
    world_run(&w, 64);                                        // it is released
    assert_false(world_submit(&w, "m", 8, 8, 4, 0)->refused); // the first has gone
    router_core_cancel(w.core, w.requests[2].session, w.now), w.requests[2].session = NULL;
    world_fini(&w);

    o.held_bytes_max = 0, o.sessions_max = 2;
    world_init(&w, &o);
    a = script_worker(&w, "a", 8);
    for (uint32_t i = 0; i < 2; i++) assert_false(world_submit(&w, "m", 8, 8, 4, 0)->refused);
    assert_true(world_submit(&w, "m", 8, 8, 4, 0)->refused);
    for (uint32_t i = 0; i < 2; i++) router_core_cancel(w.core, w.requests[i].session, w.now), w.requests[i].session = NULL;
    world_fini(&w);
}

static void a_leaving_router_is_not_ready_and_serves_on(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    char why[64];
    router_core_leave(w.core, w.now);
    assert_false(router_core_ready(w.core, why, sizeof why));
    struct request *r = world_submit(&w, "m", 2, 8, 40, 0);
    assert_false(r->refused);
    struct msg_generate g = *script_generate(&w, a);
    script_finish(&w, a, &g, 0, 2);
    assert_true(r->done);
    router_core_drain(w.core, w.now);
    assert_true(world_submit(&w, "m", 2, 8, 40, 0)->refused);
    world_fini(&w);
}

static void a_draining_router_refuses_and_finishes(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4);
    struct request *r = world_submit(&w, "m", 2, 8, 40, 0);
    router_core_drain(w.core, w.now);
    struct request *late = world_submit(&w, "m", 2, 8, 40, 0);
    assert_true(late->refused && late->error == ERR_DRAINING);
    char why[64];
    assert_false(router_core_ready(w.core, why, sizeof why));
    assert_false(router_core_idle(w.core));
    struct msg_generate g = *script_generate(&w, a);
    script_finish(&w, a, &g, 0, 2);
    assert_true(r->done);
    world_fini(&w);
}

static void seeds_are_given_by_the_stream_of_the_options(void **state) {
    uint64_t seeds[2][3];
    for (uint32_t round = 0; round < 2; round++) {
        struct world w;
        script_world(&w);
        link_id a = script_worker(&w, "a", 4);
        for (uint32_t i = 0; i < 3; i++) {
            struct request *r = world_submit(&w, "m", 2, 8, 40, 0);
            seeds[round][i] = script_generate(&w, a)->seed;
            assert_true(session_view(r->session).seed == seeds[round][i]);
            router_core_cancel(w.core, r->session, w.now);
            r->session = NULL;
        }
        world_fini(&w);
    }
    assert_memory_equal(seeds[0], seeds[1], sizeof seeds[0]);
    assert_true(seeds[0][0] != seeds[0][1] && seeds[0][1] != seeds[0][2]);
}

static void a_query_is_answered_with_what_the_router_knows(void **state) {
    struct world w;
    script_world(&w);
    script_worker(&w, "a", 4);
    link_id peer = world_script(&w, ROLE_ROUTER, "r3", "elsewhere", true),
            client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_say_ready(&w, peer, "m", 8, 1);
    struct msg m = {.kind = MSG_QUERY};
    world_say(&w, client, &m);
    assert_int_equal(world_heard(&w, client, MSG_CLUSTER)->m.cluster.n_routers, 2);
    struct msg_cluster c;
    router_core_cluster(w.core, &c);
    assert_int_equal(c.n_replicas, 1);
    assert_string_equal(c.replicas[0].name, "a");
    assert_string_equal(c.routers[0].name, "r1");
    assert_string_equal(c.routers[1].name, "r3");
    struct model_view models[4];
    assert_int_equal(router_core_models(w.core, models, 4), 1);
    assert_string_equal(models[0].name, "m");
    assert_int_equal(models[0].replicas_ready, 2);
    world_fini(&w);
}

// It took this router for dead and met it again over the same connection: it counts its statuses from 1.
static void a_peer_that_forgot_the_link_is_believed_again(void **state) {
    struct world w;
    script_world(&w);
    link_id peer = world_script_as(&w, ROLE_ROUTER, "r3", "elsewhere", true, 77);
    world_say_ready(&w, peer, "m", 8, 900);
    struct model_view models[1];
    router_core_models(w.core, models, 1);
    assert_int_equal(models[0].replicas_ready, 1);
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){
        .protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .incarnation = 77, .reply_wanted = true};
    snprintf(m.hello.name, sizeof m.hello.name, "r3");
    snprintf(m.hello.region, sizeof m.hello.region, "elsewhere");
    world_say(&w, peer, &m);
    m = (struct msg){.kind = MSG_STATUS, .status = {.seq = 1, .full = true, .has_life = true, .state = LIFECYCLE_READY}};
    world_say(&w, peer, &m); // it has nobody left
    router_core_models(w.core, models, 1);
    assert_int_equal(models[0].replicas_ready, 0);
    world_fini(&w);
}

static void requests_follow_the_shares_of_deployments(void **state) {
    struct world w;
    struct router_core_options o;
    world_options(&o);
    o.n_shares = 2;
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(o.shares[i].model, NAME_SIZE, "m");
        snprintf(o.shares[i].deployment, NAME_SIZE, i ? "green" : "blue");
        o.shares[i].share = i ? 5 : 95;
    }
    world_init(&w, &o);
    link_id links[2];
    for (uint32_t i = 0; i < 2; i++) {
        links[i] = world_script(&w, ROLE_WORKER, i ? "g" : "b", "here", false);
        struct deployment_status d = {.groups = STATUS_ALL, .replicas_ready = 1, .replicas_total = 1};
        snprintf(d.info.model, NAME_SIZE, "m");
        snprintf(d.info.deployment, NAME_SIZE, i ? "green" : "blue");
        d.info.max_seqs = 1000;
        struct msg m = {.kind = MSG_STATUS, .status = {.seq = 1, .full = true, .has_life = true, .state = LIFECYCLE_READY}};
        m.status.n_deployments = 1, m.status.deployments = &d;
        world_say(&w, links[i], &m);
    }
    for (uint32_t i = 0; i < 400; i++) world_submit(&w, "m", 2, 8, 40, 0);
    assert_int_equal(world_count(&w, links[0], MSG_GENERATE), 380);
    assert_int_equal(world_count(&w, links[1], MSG_GENERATE), 20);
    for (uint32_t i = 0; i < 400; i++)
        router_core_cancel(w.core, w.requests[i].session, w.now), w.requests[i].session = NULL;
    world_fini(&w);
}

// --- the planted bugs do what they should

static void the_planted_bugs_do_harm(void **state) {
    struct router_core_options o;
    struct world w;
    world_options(&o);
    o.bug = ROUTER_BUG_OFFSET_RULE;
    world_init(&w, &o);
    link_id a = script_worker(&w, "a", 1);
    struct msg m = script_client_generate(1);
    link_id client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_say(&w, client, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_tokens(&w, a, &g, 0, 2);
    script_tokens(&w, a, &g, 0, 3);
    assert_int_equal(world_heard(&w, client, MSG_TOKENS)->m.tokens.offset + world_heard(&w, client, MSG_TOKENS)->n_records,
                     5);
    router_core_destroy(w.core);
    free(w.requests), free(w.captured);

    o.bug = ROUTER_BUG_STALE_ATTEMPT;
    world_init(&w, &o);
    a = script_worker(&w, "a", 1);
    client = world_script(&w, ROLE_CLIENT, "", "", false);
    world_say(&w, client, &m);
    g = *script_generate(&w, a);
    g.attempt.counter = 99;
    script_tokens(&w, a, &g, 0, 2);
    assert_non_null(world_heard(&w, client, MSG_TOKENS));
    router_core_destroy(w.core);
    free(w.requests), free(w.captured);

    o.bug = ROUTER_BUG_QUEUE_RESERVATION;
    world_init(&w, &o);
    a = script_worker(&w, "a", 1);
    for (uint32_t i = 0; i < 3; i++) world_submit(&w, "m", 2, 8, 40, 0);
    for (uint32_t i = 3; i-- > 0;) router_core_cancel(w.core, w.requests[i].session, w.now);
    struct router_counters c;
    router_core_counters(w.core, &c);
    assert_int_equal(c.queued, 1);
    router_core_destroy(w.core);
    free(w.requests), free(w.captured);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_model_is_refused_with_the_known_ones_and_an_alias_is_known),
        cmocka_unit_test(without_a_ready_replica_it_waits_for_one_that_loads_and_is_refused_when_all_are_long_gone),
        cmocka_unit_test(a_stream_that_somebody_has_part_of_waits_even_when_all_are_long_gone),
        cmocka_unit_test(a_router_that_has_just_started_does_not_refuse_what_its_workers_may_serve_soon),
        cmocka_unit_test(the_limits_of_queue_tokens_and_streams_hold_at_and_past_them),
        cmocka_unit_test(a_leaving_router_is_not_ready_and_serves_on),
        cmocka_unit_test(a_draining_router_refuses_and_finishes),
        cmocka_unit_test(seeds_are_given_by_the_stream_of_the_options),
        cmocka_unit_test(a_query_is_answered_with_what_the_router_knows),
        cmocka_unit_test(a_peer_that_forgot_the_link_is_believed_again),
        cmocka_unit_test(requests_follow_the_shares_of_deployments),
        cmocka_unit_test(the_planted_bugs_do_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
