// Offers of workers that must go, over scripted links: taken when the records are there, placed where the store is read,
// settled when accepted or over.
#include "tests/unit/router/core/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char handle[] = "0f1e2d3c4b5a69788796a5b4c3d2e1f0", store[] = "5ca1ab1e00000000";

static void say_status(struct world *w, link_id link, uint64_t seq, enum lifecycle state, const char *its_store) {
    struct deployment_status d = {.groups = STATUS_INFO | STATUS_LOAD, .replicas_ready = 1, .replicas_total = 1};
    snprintf(d.info.model, sizeof d.info.model, "m");
    snprintf(d.info.deployment, sizeof d.info.deployment, "d");
    snprintf(d.info.fingerprint, sizeof d.info.fingerprint, "f");
    snprintf(d.info.store, sizeof d.info.store, "%s", its_store);
    d.info.max_seqs = 4;
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = seq, .has_life = true, .state = state, .deadline_ms = 1000}};
    m.status.n_deployments = 1;
    m.status.deployments = &d;
    world_say(w, link, &m);
}

static void say_offer(struct world *w, link_id link, const struct msg_generate *g, uint32_t n, const char *its_handle,
                      uint32_t lease_ms) {
    struct msg m = {.kind = MSG_MOVE_OFFER, .move_offer = {.key = g->key, .attempt = g->attempt, .n_tokens = n}};
    snprintf(m.move_offer.handle, NAME_SIZE, "%s", its_handle);
    snprintf(m.move_offer.store, NAME_SIZE, "%s", its_handle[0] ? store : "");
    m.move_offer.lease_ms = lease_ms;
    world_say(w, link, &m);
}

// A client's stream with three records runs on `a`, which is then noticed.
static struct msg_generate noticed(struct world *w, link_id *a, link_id *client, const char *its_store) {
    script_world(w);
    *a = script_worker(w, "a", 4);
    *client = world_script(w, ROLE_CLIENT, "", "", false);
    say_status(w, *a, 2, LIFECYCLE_READY, its_store);
    struct msg m = script_client_generate(1);
    snprintf(m.generate.restore, NAME_SIZE, "%s", handle); // which is not for clients to say
    snprintf(m.generate.store, NAME_SIZE, "%s", store);
    world_say(w, *client, &m);
    struct msg_generate g = *script_generate(w, *a);
    assert_string_equal(g.restore, "");
    script_accepted(w, *a, &g);
    script_tokens(w, *a, &g, 0, 3);
    say_status(w, *a, 3, LIFECYCLE_NOTICED, its_store);
    return g;
}

static void cancel_all(struct world *w, link_id client, const struct msg_generate *g) {
    struct msg m = {.kind = MSG_CANCEL, .cancel = {.key = g->key}};
    world_say(w, client, &m);
    struct msg_done done = world_heard(w, client, MSG_DONE)->m.done;
    m = (struct msg){.kind = MSG_ACK, .ack = {.key = g->key, .attempt = done.attempt, .next = done.n_tokens, .done = true}};
    world_say(w, client, &m);
}

static void an_offer_is_placed_where_its_store_is_read_and_settled_when_accepted(void **state) {
    struct world w;
    link_id a, client;
    struct msg_generate g = noticed(&w, &a, &client, store);
    link_id others = script_worker(&w, "b", 4), kin = script_worker(&w, "c", 4);
    say_status(&w, others, 2, LIFECYCLE_READY, "another");
    say_status(&w, kin, 2, LIFECYCLE_READY, store);
    say_offer(&w, a, &g, 3, handle, 60000);
    const struct msg_generate *second = script_generate(&w, kin);
    assert_non_null(second);
    assert_null(script_generate(&w, others));
    assert_int_equal(second->attempt.counter, 2);
    assert_string_equal(second->restore, handle);
    assert_string_equal(second->store, store);
    assert_int_equal(world_heard(&w, kin, MSG_GENERATE)->n_records, 3);
    assert_null(world_heard(&w, a, MSG_CANCEL)); // its log stays until the move is committed
    assert_null(world_heard(&w, a, MSG_MOVE_COMMIT));
    say_offer(&w, a, &g, 3, handle, 60000); // repeated
    script_tokens(&w, a, &g, 2, 1);         // what the worker repeats until it is acknowledged
    assert_null(world_heard(&w, a, MSG_MOVE_COMMIT));
    assert_null(world_heard(&w, a, MSG_CANCEL));
    struct msg_generate placed = *second;
    script_accepted(&w, kin, &placed);
    struct msg_move_commit commit = world_heard(&w, a, MSG_MOVE_COMMIT)->m.move_commit;
    assert_true(attempt_equal(&commit.attempt, &g.attempt) && attempt_equal(&commit.by, &placed.attempt));
    say_offer(&w, a, &g, 3, handle, 60000); // the commit was lost
    assert_int_equal(world_count(&w, a, MSG_MOVE_COMMIT), 2);
    router_core_link_closed(w.core, kin, w.now); // what comes after is computed
    world_run(&w, 1);
    assert_string_equal(script_generate(&w, others)->restore, "");
    assert_int_equal(script_generate(&w, others)->attempt.counter, 3);
    cancel_all(&w, client, &g);
    world_fini(&w);
}

static void an_offer_waits_for_the_records_that_were_lost(void **state) {
    struct world w;
    link_id a, client;
    struct msg_generate g = noticed(&w, &a, &client, store);
    link_id b = script_worker(&w, "b", 4);
    say_offer(&w, a, &g, 5, handle, 60000);
    assert_null(script_generate(&w, b));
    assert_int_equal(world_heard(&w, a, MSG_RESEND)->m.resend.from, 3);
    script_tokens(&w, a, &g, 3, 2);
    say_offer(&w, a, &g, 5, handle, 60000);
    assert_int_equal(world_heard(&w, b, MSG_GENERATE)->n_records, 5); // nobody reads the store: any will do
    cancel_all(&w, client, &g);
    struct msg_move_commit commit = world_heard(&w, a, MSG_MOVE_COMMIT)->m.move_commit;
    assert_true(attempt_is_none(&commit.by)); // nobody wants it any more
    world_fini(&w);
}

static void an_offer_without_takers_waits_and_its_checkpoint_is_used_only_under_its_lease(void **state) {
    for (uint32_t late = 0; late < 2; late++) {
        struct world w;
        link_id a, client;
        struct msg_generate g = noticed(&w, &a, &client, store);
        say_offer(&w, a, &g, 3, handle, 500);
        world_run(&w, late ? 600 : 400);
        assert_null(world_heard(&w, a, MSG_MOVE_COMMIT));
        router_core_link_closed(w.core, a, w.now); // it had to go; that is no death that anybody is blamed for
        link_id b = script_worker(&w, "b", 4);
        world_run(&w, 1);
        assert_string_equal(script_generate(&w, b)->restore, late ? "" : handle);
        struct router_counters c;
        router_core_counters(w.core, &c);
        assert_true(c.offers == 1 && c.moved == 0 && c.poisoned == 0);
        struct msg_generate second = *script_generate(&w, b);
        script_accepted(&w, b, &second);
        router_core_counters(w.core, &c);
        assert_int_equal(c.moved, 1);
        cancel_all(&w, client, &g);
        world_fini(&w);
    }
}

static void an_offer_of_a_stream_that_is_over_is_settled_at_once(void **state) {
    struct world w;
    link_id a, client;
    struct msg_generate g = noticed(&w, &a, &client, store);
    cancel_all(&w, client, &g);
    say_offer(&w, a, &g, 3, handle, 1000);
    assert_true(attempt_is_none(&world_heard(&w, a, MSG_MOVE_COMMIT)->m.move_commit.by));
    world_fini(&w);
}

static void a_relaying_router_leaves_the_decision_to_the_owner(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), owner = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = script_client_generate(1);
    m.generate.hops = 1;
    m.generate.attempt = (struct attempt){0, 3, 4242};
    world_say(&w, owner, &m);
    struct msg_generate g = *script_generate(&w, a);
    script_accepted(&w, a, &g);
    script_tokens(&w, a, &g, 0, 3);
    say_offer(&w, a, &g, 3, handle, 60000);
    struct msg_move_offer passed = world_heard(&w, owner, MSG_MOVE_OFFER)->m.move_offer;
    assert_true(attempt_equal(&passed.attempt, &m.generate.attempt) && passed.n_tokens == 3);
    assert_string_equal(passed.handle, handle);
    struct msg commit = {.kind = MSG_MOVE_COMMIT, .move_commit = {g.key, {0, 2, 4242}, {0, 3, 4242}}};
    world_say(&w, owner, &commit); // of an older attempt
    assert_null(world_heard(&w, a, MSG_MOVE_COMMIT));
    commit.move_commit = (struct msg_move_commit){g.key, g.attempt, {0, 4, 4242}};
    world_say(&w, owner, &commit);
    assert_int_equal(world_heard(&w, a, MSG_MOVE_COMMIT)->m.move_commit.by.counter, 4);
    assert_null(world_heard(&w, a, MSG_CANCEL));
    assert_true(router_core_idle(w.core));
    world_fini(&w);
}

static void a_notice_goes_to_the_worker_of_that_name_and_only_from_clients(void **state) {
    struct world w;
    script_world(&w);
    link_id a = script_worker(&w, "a", 4), b = script_worker(&w, "b", 4);
    link_id client = world_script(&w, ROLE_CLIENT, "", "", false),
            peer = world_script(&w, ROLE_ROUTER, "r2", "there", false);
    struct msg m = {.kind = MSG_NOTICE, .notice = {.name = "b", .deadline_ms = 700}};
    world_say(&w, peer, &m);
    world_say(&w, a, &m);
    assert_null(world_heard(&w, b, MSG_NOTICE));
    world_say(&w, client, &m);
    assert_int_equal(world_heard(&w, b, MSG_NOTICE)->m.notice.deadline_ms, 700);
    assert_null(world_heard(&w, a, MSG_NOTICE));
    world_fini(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_offer_is_placed_where_its_store_is_read_and_settled_when_accepted),
        cmocka_unit_test(an_offer_waits_for_the_records_that_were_lost),
        cmocka_unit_test(an_offer_without_takers_waits_and_its_checkpoint_is_used_only_under_its_lease),
        cmocka_unit_test(an_offer_of_a_stream_that_is_over_is_settled_at_once),
        cmocka_unit_test(a_relaying_router_leaves_the_decision_to_the_owner),
        cmocka_unit_test(a_notice_goes_to_the_worker_of_that_name_and_only_from_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
