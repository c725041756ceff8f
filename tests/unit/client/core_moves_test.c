// The client's core when a call goes to another router or starts anew: what it says then decides which attempt wins, and
// that no answer is spliced from two models. Scripted routers, virtual clock.
#include "client/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { ROUTERS = 2 };

struct script {
    struct client_core core;
    struct call call;
    ms_t now;
    struct msg_generate generate; // the last one said
    uint32_t n_records;           // that came along with it
    link_id generate_link;
    uint32_t generates, syncs;
};

static void note(void *ctx, link_id link, const struct msg *m) {
    struct script *s = ctx;
    s->syncs += m->kind == MSG_SYNC;
    if (m->kind != MSG_GENERATE) return;
    s->generates++;
    s->generate = m->generate;
    s->n_records = m->generate.records.count;
    s->generate_link = link;
}
static void on_changed(void *ctx, struct call *c) { (void)ctx, (void)c; }
static void on_cluster(void *ctx, int router, const struct msg_cluster *m) { (void)ctx, (void)router, (void)m; }

static void say_hello(struct script *s, int router) {
    struct msg m = {.kind = MSG_HELLO};
    m.hello =
        (struct msg_hello){.protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .name = "r", .heartbeat_ms = 100};
    m.hello.incarnation = 10 + (incarnation_t)router;
    core_message(&s->core, router, &m, s->now);
}

static void greet(struct script *s, int router) {
    core_link_opened(&s->core, router, s->now);
    say_hello(s, router);
}

static void begin(struct script *s) {
    *s = (struct script){.now = 1000};
    s->core.options = (struct core_options){.incarnation = 1, .name = "c", .n_routers = ROUTERS, .routers_text = ""};
    s->core.options.connect_ms = 60000, s->core.options.silence_ms = 1500;
    s->core.sink = (struct sink){.ctx = s, .send = note};
    s->core.ctx = s, s->core.changed = on_changed, s->core.cluster = on_cluster;
    for (int i = 0; i < ROUTERS; i++) greet(s, i);
    struct msg_generate g = {.key = {.request = {.bytes = {7}}}, .has_seed = true, .max_tokens = 9};
    call_init(&s->call, &g, MS_NEVER);
    core_begin(&s->core, &s->call, s->now);
    core_tick(&s->core, s->now);
    assert_int_equal(s->generates, 1);
}

static void end(struct script *s) {
    struct error why = {.id = ERR_CANCELLED};
    core_cancel(&s->core, &s->call, &why, s->now);
    call_fini(&s->call);
}

static int serving(const struct script *s) { return (int)s->generate_link - 1; }

static struct attempt attempt_of(const struct script *s) {
    return (struct attempt){s->generate.attempt.takeover, 1, 10 + (incarnation_t)serving(s)};
}

static void accept(struct script *s, const char *fingerprint) {
    struct msg m = {.kind = MSG_ACCEPTED, .accepted = {.key = s->generate.key, .attempt = attempt_of(s), .replica = "w"}};
    snprintf(m.accepted.fingerprint, sizeof m.accepted.fingerprint, "%s", fingerprint);
    core_message(&s->core, serving(s), &m, s->now);
}

static void send_record(struct script *s) {
    struct record r = {.token = 5, .text = "x", .text_len = 1};
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = s->generate.key, .attempt = attempt_of(s)}};
    m.tokens.records = (struct records){.array = &r, .count = 1};
    core_message(&s->core, serving(s), &m, s->now);
    assert_int_equal(record_log_count(s->call.log), 1);
}

// Both routers go on speaking, but not of this call.
static void run(struct script *s, ms_t ms) {
    for (ms_t until = s->now + ms; s->now < until; s->now += 50) {
        for (int i = 0; i < ROUTERS; i++) core_message(&s->core, i, &(struct msg){.kind = MSG_STATUS}, s->now);
        core_tick(&s->core, s->now);
    }
}

static void records_wait_until_their_fingerprint_is_known(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    struct record r = {.token = 5, .text = "x", .text_len = 1};
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = s.generate.key, .attempt = attempt_of(&s)}};
    m.tokens.records = (struct records){.array = &r, .count = 1};
    for (int i = 0; i < 3; i++) core_message(&s.core, serving(&s), &m, s.now); // Accepted was lost
    assert_int_equal(record_log_count(s.call.log), 0); // or they could be spliced with those of another model
    assert_int_equal(s.syncs, 1);
    accept(&s, "f1");
    send_record(&s);
    end(&s);
}

static void a_forgotten_call_starts_anew_as_a_later_one(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    uint32_t before = s.generate.attempt.takeover;
    accept(&s, "f1");
    struct msg m = {.kind = MSG_UNKNOWN, .unknown = {.key = s.generate.key, .attempt = attempt_of(&s)}};
    core_message(&s.core, serving(&s), &m, s.now);
    run(&s, 1000);
    assert_int_equal(s.generates, 2);
    assert_true(s.generate.attempt.takeover > before); // or it would find the remains of its first attempt
    end(&s);
}

static void reject(struct script *s, err_id id) {
    struct msg m = {.kind = MSG_REJECTED, .rejected = {.key = s->generate.key}};
    error_set(&m.rejected.error, id, "no");
    core_message(&s->core, serving(s), &m, s->now);
    run(s, 100);
}

static void what_one_router_cannot_serve_is_asked_of_the_others_once(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    int first = serving(&s);
    reject(&s, ERR_UNAVAILABLE);
    assert_int_equal(s.generates, 2);
    assert_int_not_equal(serving(&s), first);
    reject(&s, ERR_MODEL_NOT_FOUND);
    assert_int_equal(s.generates, 2);
    assert_true(s.call.state == CALL_ENDED && s.call.failure.id == ERR_MODEL_NOT_FOUND);
    call_fini(&s.call);
    begin(&s);
    reject(&s, ERR_OVERLOADED); // the cluster's word, not one router's
    assert_int_equal(s.generates, 1);
    assert_true(s.call.state == CALL_ENDED && s.call.failure.id == ERR_OVERLOADED);
    call_fini(&s.call);
}

static void answers_to_what_was_said_before_a_new_beginning_are_dropped(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    accept(&s, "f1");
    struct attempt old = attempt_of(&s);
    struct msg m = {.kind = MSG_UNKNOWN, .unknown = {.key = s.generate.key, .attempt = old}};
    core_message(&s.core, serving(&s), &m, s.now);
    run(&s, 1000);
    assert_int_equal(s.generates, 2);
    core_message(&s.core, serving(&s), &m, s.now); // once more
    struct msg late = {.kind = MSG_SUPERSEDED, .superseded = {.key = s.generate.key, .attempt = old}};
    late.superseded.by = attempt_of(&s);
    core_message(&s.core, serving(&s), &late, s.now); // its first Generate came twice
    run(&s, 1000);
    assert_int_equal(s.generates, 2);
    assert_int_equal(s.call.state, CALL_PLACED);
    end(&s);
}

static void what_an_earlier_attempt_still_sends_is_dropped(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    accept(&s, "f1");
    struct attempt old = attempt_of(&s);
    struct msg m = {.kind = MSG_UNKNOWN, .unknown = {.key = s.generate.key, .attempt = old}};
    core_message(&s.core, serving(&s), &m, s.now);
    run(&s, 1000);
    assert_int_equal(s.generates, 2);
    struct record r = {.token = 6, .text = "y", .text_len = 1};
    m = (struct msg){.kind = MSG_TOKENS, .tokens = {.key = s.generate.key, .attempt = old}};
    m.tokens.records = (struct records){.array = &r, .count = 1};
    core_message(&s.core, serving(&s), &m, s.now);
    assert_int_equal(record_log_count(s.call.log), 0);
    send_record(&s);
    end(&s);
}

static void records_bind_a_call_to_their_fingerprint_wherever_it_goes(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    int first = serving(&s);
    accept(&s, "f1");
    send_record(&s);
    core_link_closed(&s.core, first, s.now);
    run(&s, 1000);
    assert_int_equal(s.generates, 2);
    assert_int_not_equal(serving(&s), first);
    assert_int_equal(s.n_records, 1);
    assert_string_equal(s.generate.fingerprint, "f1");
    end(&s);
}

static void a_call_without_records_may_go_on_with_any_fingerprint(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    accept(&s, "f1");
    core_link_closed(&s.core, serving(&s), s.now);
    run(&s, 1000);
    assert_int_equal(s.generates, 2);
    assert_string_equal(s.generate.fingerprint, "");
    end(&s);
}

static void a_router_that_lives_but_is_deaf_is_left(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    int first = serving(&s);
    accept(&s, "f1");
    run(&s, CORE_WATCH_MS * (CORE_UNANSWERED_MAX + 2));
    assert_int_equal(s.syncs, CORE_UNANSWERED_MAX);
    assert_int_equal(s.generates, 2);
    assert_int_not_equal(serving(&s), first);
    end(&s);
}

static void a_call_that_waits_in_its_routers_queue_stays_there(void **state) {
    (void)state;
    struct script s;
    begin(&s);
    for (int i = 0; i < 20; i++) {
        run(&s, 2000);
        say_hello(&s, serving(&s)); // the answer to the client's
    }
    assert_true(s.syncs > 5);
    assert_int_equal(s.generates, 1);
    end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_wait_until_their_fingerprint_is_known),
        cmocka_unit_test(a_forgotten_call_starts_anew_as_a_later_one),
        cmocka_unit_test(what_one_router_cannot_serve_is_asked_of_the_others_once),
        cmocka_unit_test(answers_to_what_was_said_before_a_new_beginning_are_dropped),
        cmocka_unit_test(what_an_earlier_attempt_still_sends_is_dropped),
        cmocka_unit_test(records_bind_a_call_to_their_fingerprint_wherever_it_goes),
        cmocka_unit_test(a_call_without_records_may_go_on_with_any_fingerprint),
        cmocka_unit_test(a_router_that_lives_but_is_deaf_is_left),
        cmocka_unit_test(a_call_that_waits_in_its_routers_queue_stays_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
