// libshoal against a router that misbehaves, over real sockets. Every answer must arrive whole, in order and once, or fail
// with a sentence; nothing may hang.
#include "client/shoal.h"
#include "tests/unit/client/fake_router.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct got {
    uint32_t tokens, accepted, done, failed;
    bool wrong; // an offset, token or text that was not the next one
    struct buf text;
    struct shoal_event last;
    char finish[16];
    struct shoal_failure failure;
    uint32_t stop_after;
    const struct fake_options *start_at_four; // another router comes up while the first serves
    struct fake_router *started;
    struct fake_router *kill_at_ten; // stopped from inside when ten tokens are there
    char request_id[SHOAL_REQUEST_ID_SIZE];
    atomic_bool begun;
};

static bool on_event(void *ctx, const struct shoal_event *e) {
    struct got *g = ctx;
    char expect[16];
    g->last = *e;
    switch (e->kind) {
    case SHOAL_ACCEPTED:
        g->accepted++;
        g->begun = true;
        break;
    case SHOAL_TOKEN:
        snprintf(expect, sizeof expect, "%u ", g->tokens);
        g->wrong |= e->offset != g->tokens || e->token != 1000 + g->tokens || e->text_len != strlen(expect) ||
                    memcmp(e->text, expect, e->text_len) != 0;
        g->tokens++;
        buf_append(&g->text, e->text, e->text_len);
        if (g->start_at_four && g->tokens == 4) g->started = fake_start(g->start_at_four);
        if (g->kill_at_ten && g->tokens == 10) {
            fake_stop(g->kill_at_ten);
            g->kill_at_ten = NULL;
        }
        if (g->tokens == g->stop_after) return false;
        break;
    case SHOAL_TAIL:
        buf_append(&g->text, e->text, e->text_len);
        break;
    case SHOAL_DONE:
        g->done++;
        snprintf(g->finish, sizeof g->finish, "%s", e->finish);
        break;
    case SHOAL_FAILED:
        g->failed++;
        g->failure = *e->failure;
        break;
    }
    return true;
}

static struct shoal *open_client(const char *routers) {
    struct shoal_options o = {.size = sizeof o, .routers = routers, .connect_ms = 1500, .silence_ms = 600};
    struct shoal *s;
    struct shoal_failure why;
    if (shoal_open(&o, &s, &why) != 0) fail_msg("%s", why.text);
    return s;
}

static struct shoal_request request(void) {
    struct shoal_request r = SHOAL_REQUEST_INIT;
    r.model = "tiny";
    r.messages_json = "[]";
    r.deadline_ms = 10000;
    return r;
}

static int generate(struct shoal *s, struct got *g) {
    struct shoal_request r = request();
    return shoal_generate(s, &r, on_event, g, NULL);
}

static void assert_whole(const struct got *g, uint32_t n) {
    if (g->failed) fail_msg("failed: %s", g->failure.text);
    assert_false(g->wrong);
    assert_int_equal(g->tokens, n);
    assert_int_equal(g->done, 1);
    assert_string_equal(g->finish, "length");
    assert_string_equal(g->text.data + g->text.len - 6, "19 end");
}

// One call against one router with this fault.
static struct fake_router *against(enum fake_fault fault, struct got *g, int *result) {
    struct fake_router *f =
        fake_start(&(struct fake_options){.fault = fault, .pace_ms = fault == FAKE_NEW_ATTEMPT ? 10 : 0});
    struct shoal *s = open_client(fake_address(f));
    *g = (struct got){0};
    *result = generate(s, g);
    usleep(100000); // for what is under way
    shoal_close(s);
    return f;
}

static void an_answer_arrives_whole_and_is_acknowledged(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_RIGHT, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_int_equal(g.accepted, 1);
    assert_string_equal(g.last.replica, "w1");
    assert_string_equal(g.last.router, "fake");
    assert_true(g.last.attempt == 1 && g.last.attempts == 1 && g.last.prompt_tokens == 9 && g.last.completion_tokens == 20);
    assert_int_equal(fake_seen(f)->done_acks, 1);
    assert_int_equal(fake_seen(f)->resends, 0);
    assert_int_equal(fake_seen(f)->generates, 1);
    assert_in_range(fake_seen(f)->last_deadline_ms, 8000, 10000);
    assert_true(g.last.seed == fake_seen(f)->last_seed); // drawn, and told
    fake_stop(f);
    buf_free(&g.text);
}

static void a_gap_is_asked_for_again(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_GAP, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_in_range(fake_seen(f)->resends, 1, 3);
    fake_stop(f);
    buf_free(&g.text);
}

static void doubled_messages_are_told_once(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_DOUBLE, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_int_equal(g.accepted, 1);
    assert_in_range(fake_seen(f)->done_acks, 1, 2);
    fake_stop(f);
    buf_free(&g.text);
}

static void done_before_the_last_tokens_waits_for_them(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_DONE_EARLY, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_in_range(fake_seen(f)->resends, 1, 3);
    fake_stop(f);
    buf_free(&g.text);
}

static void garbage_in_between_changes_nothing(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_GARBAGE, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    fake_stop(f);
    buf_free(&g.text);
}

static void a_later_attempt_is_followed_and_told(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_NEW_ATTEMPT, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_int_equal(g.accepted, 2);
    assert_true(g.last.attempt == 2 && g.last.attempts == 2);
    fake_stop(f);
    buf_free(&g.text);
}

static void an_earlier_attempt_is_dropped(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_OLD_ATTEMPT, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    fake_stop(f);
    buf_free(&g.text);
}

static void a_router_that_forgot_the_stream_gets_it_again_with_its_records(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_FORGETS_ONCE, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_int_equal(fake_seen(f)->generates, 2);
    assert_int_equal(fake_seen(f)->last_records, 10);
    fake_stop(f);
    buf_free(&g.text);
}

static void a_lost_generate_is_found_by_sync(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_DEAF, &g, &result);
    assert_int_equal(result, 0);
    assert_whole(&g, 20);
    assert_int_equal(fake_seen(f)->syncs, 1);
    assert_int_equal(fake_seen(f)->generates, 2);
    fake_stop(f);
    buf_free(&g.text);
}

static void a_refusal_is_a_failure_with_its_sentence(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_REJECT, &g, &result);
    assert_int_equal(result, -1);
    assert_true(g.failed == 1 && g.done == 0 && g.tokens == 0);
    assert_string_equal(g.failure.text, "the queue is full");
    assert_string_equal(g.failure.status, "RESOURCE_EXHAUSTED");
    assert_true(g.failure.retryable && g.failure.retry_after_ms == 700 && g.failure.http_status == 429);
    fake_stop(f);
    buf_free(&g.text);
}

static void an_error_in_the_middle_keeps_what_came_before(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_ERROR, &g, &result);
    assert_int_equal(result, -1);
    assert_true(g.failed == 1 && g.done == 0 && g.tokens == 10 && !g.wrong);
    assert_string_equal(g.failure.status, "INTERNAL");
    assert_int_equal(fake_seen(f)->done_acks, 1);
    fake_stop(f);
    buf_free(&g.text);
}

static void done_that_contradicts_the_tokens_is_a_failure(void **state) {
    (void)state;
    struct got g;
    int result;
    struct fake_router *f = against(FAKE_DONE_TOO_SHORT, &g, &result);
    assert_int_equal(result, -1);
    assert_non_null(strstr(g.failure.text, "ended the answer at 19 tokens"));
    fake_stop(f);
    buf_free(&g.text);
}

static void the_deadline_ends_a_call_that_stalls_and_cancels_it(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.fault = FAKE_STALL});
    struct shoal *s = open_client(fake_address(f));
    struct got g = {0};
    struct shoal_request r = request();
    struct shoal_failure why;
    r.deadline_ms = 400;
    ms_t start = clock_ms();
    assert_int_equal(shoal_generate(s, &r, on_event, &g, &why), -1);
    assert_in_range(clock_ms() - start, 380, 1500);
    assert_string_equal(why.status, "DEADLINE_EXCEEDED");
    assert_true(g.tokens == 2 && g.failed == 1);
    usleep(100000);
    assert_in_range(fake_seen(f)->cancels, 1, 2);
    shoal_close(s);
    fake_stop(f);
    buf_free(&g.text);
}

static void with_no_router_a_call_fails_after_the_connect_time(void **state) {
    (void)state;
    struct shoal *s = open_client("tcp://127.0.0.1:1,tcp://127.0.0.1:2");
    struct got g = {0};
    ms_t start = clock_ms();
    assert_int_equal(generate(s, &g), -1);
    assert_in_range(clock_ms() - start, 1400, 4000);
    assert_string_equal(g.failure.status, "UNAVAILABLE");
    assert_non_null(strstr(g.failure.text, "tcp://127.0.0.1:1,tcp://127.0.0.1:2"));
    struct shoal_cluster *c;
    struct shoal_failure why;
    assert_int_equal(shoal_cluster(s, 300, &c, &why), -1);
    assert_non_null(strstr(why.text, "no router answered within 300 ms"));
    shoal_close(s);
    buf_free(&g.text);
}

static void a_router_that_never_says_hello_is_passed_over(void **state) {
    (void)state;
    struct fake_router *mute = fake_start(&(struct fake_options){.fault = FAKE_MUTE});
    struct fake_router *good = fake_start(&(struct fake_options){.name = "good"});
    char both[256];
    snprintf(both, sizeof both, "%s,%s", fake_address(mute), fake_address(good));
    struct shoal *s = open_client(both);
    struct got g = {0};
    assert_int_equal(generate(s, &g), 0);
    assert_whole(&g, 20);
    usleep(1000000); // long enough to be taken for dead and dialled again
    assert_true(fake_seen(mute)->hellos >= 2);
    assert_int_equal(fake_seen(mute)->generates, 0);
    shoal_close(s);
    fake_stop(mute), fake_stop(good);
    buf_free(&g.text);
}

static void a_router_that_drains_hands_over_to_another(void **state) {
    (void)state;
    struct fake_router *a = fake_start(&(struct fake_options){.fault = FAKE_DRAINING});
    struct fake_router *b = fake_start(&(struct fake_options){.name = "b"});
    char both[256];
    snprintf(both, sizeof both, "%s,%s", fake_address(a), fake_address(b));
    struct shoal *s = open_client(both);
    for (int i = 0; i < 3; i++) {
        struct got g = {0};
        assert_int_equal(generate(s, &g), 0);
        assert_whole(&g, 20);
        assert_string_equal(g.last.router, "b");
        buf_free(&g.text);
    }
    assert_true(fake_seen(a)->generates <= 1);
    shoal_close(s);
    fake_stop(a), fake_stop(b);
}

// An address where nobody listens now.
static void free_address(char out[ADDRESS_SIZE]) {
    struct fake_router *f = fake_start(&(struct fake_options){0});
    snprintf(out, ADDRESS_SIZE, "%s", fake_address(f));
    fake_stop(f);
}

// The router that serves dies after half of the answer, in one of two ways; another one goes on behind the records.
static void goes_over(bool killed) {
    char address[ADDRESS_SIZE], both[2 * ADDRESS_SIZE];
    free_address(address);
    struct fake_router *a = fake_start(&(struct fake_options){.fault = killed ? FAKE_RIGHT : FAKE_SILENT, .pace_ms = 30});
    struct fake_options other = {.name = "b", .address = address, .incarnation = 88, .pace_ms = 1};
    struct got g = {.kill_at_ten = killed ? a : NULL, .start_at_four = &other};
    snprintf(both, sizeof both, "%s,%s", fake_address(a), address);
    struct shoal *s = open_client(both);
    assert_int_equal(generate(s, &g), 0);
    assert_whole(&g, 20);
    assert_string_equal(g.last.router, "b");
    assert_int_equal(g.last.attempts, 2);
    assert_in_range(fake_seen(g.started)->last_records, 10, 12);
    assert_int_equal(fake_seen(g.started)->max_takeover, 1);
    assert_true(fake_seen(g.started)->last_seed == g.last.seed);
    shoal_close(s);
    if (!killed) fake_stop(a);
    fake_stop(g.started);
    buf_free(&g.text);
}

static void a_killed_router_is_replaced_in_the_middle_of_an_answer(void **state) {
    (void)state;
    goes_over(true);
}

static void a_silent_router_is_replaced_in_the_middle_of_an_answer(void **state) {
    (void)state;
    goes_over(false);
}

struct thread_call {
    struct shoal *s;
    struct got g;
    int result;
    pthread_t thread;
};

static void *call_in_thread(void *arg) {
    struct thread_call *t = arg;
    struct shoal_request r = request();
    r.request_id = t->g.request_id;
    t->result = shoal_generate(t->s, &r, on_event, &t->g, NULL);
    return NULL;
}

static void begin(struct thread_call *t, struct shoal *s) {
    *t = (struct thread_call){.s = s};
    shoal_draw_request_id(t->g.request_id);
    assert_int_equal(pthread_create(&t->thread, NULL, call_in_thread, t), 0);
}

// The only router is gone and comes back: as the same (only the connection broke), as a new one, or without memory.
static void comes_back(uint64_t incarnation, bool knows_nothing, unsigned syncs, unsigned generates) {
    struct fake_options o = {.pace_ms = 10, .n_tokens = 20, .fault = FAKE_STALL};
    struct fake_router *f = fake_start(&o);
    char address[ADDRESS_SIZE];
    snprintf(address, sizeof address, "%s", fake_address(f));
    struct shoal *s = open_client(address);
    struct thread_call t;
    begin(&t, s);
    while (!t.g.begun) usleep(1000);
    usleep(100000); // two tokens have come
    fake_stop(f);
    o = (struct fake_options){.pace_ms = 1, .address = address, .incarnation = incarnation, .knows_nothing = knows_nothing};
    f = fake_start(&o);
    pthread_join(t.thread, NULL);
    assert_int_equal(t.result, 0);
    assert_whole(&t.g, 20);
    assert_int_equal(fake_seen(f)->generates, generates);
    assert_int_equal(fake_seen(f)->last_records, 2);
    assert_int_equal(fake_seen(f)->syncs, syncs);
    shoal_close(s);
    fake_stop(f);
    buf_free(&t.g.text);
}

static void after_a_broken_connection_the_client_says_sync(void **state) {
    (void)state;
    comes_back(77, true, 1, 1); // the fake has no memory of the stream: Unknown, then Generate with the records
}

static void a_restarted_router_gets_generate_with_the_records(void **state) {
    (void)state;
    comes_back(78, false, 0, 1);
}

static void a_call_can_be_cancelled_from_another_thread(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.fault = FAKE_STALL});
    struct shoal *s = open_client(fake_address(f));
    struct thread_call t;
    begin(&t, s);
    while (!t.g.begun) usleep(1000);
    assert_false(shoal_cancel(s, "00000000000000000000000000000000"));
    ms_t start = clock_ms();
    assert_true(shoal_cancel(s, t.g.request_id));
    pthread_join(t.thread, NULL);
    assert_in_range(clock_ms() - start, 0, 500);
    assert_int_equal(t.result, -1);
    assert_string_equal(t.g.failure.status, "CANCELLED");
    assert_false(shoal_cancel(s, t.g.request_id));
    usleep(100000);
    assert_true(fake_seen(f)->cancels >= 1);
    shoal_close(s);
    fake_stop(f);
    buf_free(&t.g.text);
}

static void a_callback_that_says_no_cancels(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.pace_ms = 5});
    struct shoal *s = open_client(fake_address(f));
    struct got g = {.stop_after = 4};
    assert_int_equal(generate(s, &g), -1);
    assert_true(g.tokens == 4 && g.failed == 1 && g.done == 0);
    assert_string_equal(g.failure.status, "CANCELLED");
    shoal_close(s);
    fake_stop(f);
    buf_free(&g.text);
}

static void closing_the_handle_ends_calls_in_progress(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.fault = FAKE_STALL});
    struct shoal *s = open_client(fake_address(f));
    struct thread_call calls[3];
    for (int i = 0; i < 3; i++) begin(&calls[i], s);
    for (int i = 0; i < 3; i++)
        while (!calls[i].g.begun) usleep(1000);
    shoal_close(s);
    for (int i = 0; i < 3; i++) {
        pthread_join(calls[i].thread, NULL);
        assert_string_equal(calls[i].g.failure.text, "the handle was closed");
        buf_free(&calls[i].g.text);
    }
    fake_stop(f);
}

static void many_threads_share_a_handle(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.pace_ms = 2});
    struct shoal *s = open_client(fake_address(f));
    struct thread_call calls[8];
    for (int i = 0; i < 8; i++) begin(&calls[i], s);
    for (int i = 0; i < 8; i++) {
        pthread_join(calls[i].thread, NULL);
        assert_int_equal(calls[i].result, 0);
        assert_whole(&calls[i].g, 20);
        buf_free(&calls[i].g.text);
    }
    shoal_close(s);
    fake_stop(f);
}

static void the_views_of_all_routers_are_put_together(void **state) {
    (void)state;
    struct fake_router *a = fake_start(&(struct fake_options){.name = "a"}),
                       *b = fake_start(&(struct fake_options){.name = "b"});
    char all[256];
    snprintf(all, sizeof all, "%s,%s,tcp://127.0.0.1:1", fake_address(a), fake_address(b));
    struct shoal *s = open_client(all);
    struct shoal_cluster *c;
    assert_int_equal(shoal_cluster(s, 2000, &c, NULL), 0);
    assert_int_equal(c->n_routers, 3);
    assert_string_equal(c->routers[0].name, "a");
    assert_true(c->routers[0].reached && c->routers[0].pid == 99 && !c->routers[2].reached);
    assert_int_equal(c->n_replicas, 2);
    assert_string_equal(c->replicas[1].name, "b-w1");
    assert_string_equal(c->replicas[1].state, "ready");
    assert_true(c->replicas[1].running == 3 && c->replicas[1].n_workers == 1 && c->replicas[1].workers[0].pid == 4242);
    shoal_cluster_free(c);
    assert_int_equal(fake_seen(a)->queries, 1);
    shoal_close(s);
    fake_stop(a), fake_stop(b);
}

static void a_request_that_makes_no_sense_is_refused_at_once(void **state) {
    (void)state;
    struct shoal *s = open_client("tcp://127.0.0.1:1");
    struct shoal_failure why;
    struct shoal_request r = request();
    r.model = NULL;
    assert_int_equal(shoal_generate(s, &r, NULL, NULL, &why), -1);
    assert_string_equal(why.param, "model");
    r = request(), r.prompt = "both";
    assert_int_equal(shoal_generate(s, &r, NULL, NULL, &why), -1);
    assert_non_null(strstr(why.text, "exactly one"));
    r = request(), r.temperature = -1;
    assert_int_equal(shoal_generate(s, &r, NULL, NULL, &why), -1);
    assert_string_equal(why.param, "temperature");
    r = request(), r.request_id = "xyz";
    assert_int_equal(shoal_generate(s, &r, NULL, NULL, &why), -1);
    assert_string_equal(why.param, "request_id");
    r = request(), r.model = "a\nb";
    assert_int_equal(shoal_generate(s, &r, NULL, NULL, &why), -1);
    assert_string_equal(why.param, "model");
    shoal_close(s);
}

static void options_that_make_no_sense_are_refused(void **state) {
    (void)state;
    struct shoal *s;
    struct shoal_failure why;
    struct shoal_options o = {.size = sizeof o};
    assert_int_equal(shoal_open(&o, &s, &why), -1);
    assert_string_equal(why.text, "no routers are given");
    o.routers = ",,";
    assert_int_equal(shoal_open(&o, &s, &why), -1);
    o.routers = "tcp://127.0.0.1:7700,nonsense://x";
    assert_int_equal(shoal_open(&o, &s, &why), -1);
    assert_non_null(strstr(why.text, "nonsense"));
    o.routers = "tcp://192.0.2.1:7700"; // leaves the host: not without encryption
    assert_int_equal(shoal_open(&o, &s, &why), -1);
    assert_null(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_arrives_whole_and_is_acknowledged),
        cmocka_unit_test(a_gap_is_asked_for_again),
        cmocka_unit_test(doubled_messages_are_told_once),
        cmocka_unit_test(done_before_the_last_tokens_waits_for_them),
        cmocka_unit_test(garbage_in_between_changes_nothing),
        cmocka_unit_test(a_later_attempt_is_followed_and_told),
        cmocka_unit_test(an_earlier_attempt_is_dropped),
        cmocka_unit_test(a_router_that_forgot_the_stream_gets_it_again_with_its_records),
        cmocka_unit_test(a_lost_generate_is_found_by_sync),
        cmocka_unit_test(a_refusal_is_a_failure_with_its_sentence),
        cmocka_unit_test(an_error_in_the_middle_keeps_what_came_before),
        cmocka_unit_test(done_that_contradicts_the_tokens_is_a_failure),
        cmocka_unit_test(the_deadline_ends_a_call_that_stalls_and_cancels_it),
        cmocka_unit_test(with_no_router_a_call_fails_after_the_connect_time),
        cmocka_unit_test(a_router_that_never_says_hello_is_passed_over),
        cmocka_unit_test(a_router_that_drains_hands_over_to_another),
        cmocka_unit_test(a_killed_router_is_replaced_in_the_middle_of_an_answer),
        cmocka_unit_test(a_silent_router_is_replaced_in_the_middle_of_an_answer),
        cmocka_unit_test(after_a_broken_connection_the_client_says_sync),
        cmocka_unit_test(a_restarted_router_gets_generate_with_the_records),
        cmocka_unit_test(a_call_can_be_cancelled_from_another_thread),
        cmocka_unit_test(a_callback_that_says_no_cancels),
        cmocka_unit_test(closing_the_handle_ends_calls_in_progress),
        cmocka_unit_test(many_threads_share_a_handle),
        cmocka_unit_test(the_views_of_all_routers_are_put_together),
        cmocka_unit_test(a_request_that_makes_no_sense_is_refused_at_once),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
