// libshoal in a caller's event loop: many calls on one thread, with several choices each, over a router that misbehaves and
// one that dies. Every choice must arrive whole, in order and once.
#include "client/shoal.h"
#include "tests/unit/client/fake_router.h"

#include "common/base/buf.h"
#include "common/base/check.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CALLS = 50, CHOICES = 3, TOKENS = 20, PATIENCE_MS = 30000 };

struct got {
    struct shoal *shoal;
    uint32_t tokens[CHOICES], ended[CHOICES], failed, lasts, events_after_last;
    bool wrong;
    uint32_t stop_after; // tokens of all choices
    uint32_t total;
    struct got *start_next; // begun from inside the callback, at the end
    char why[sizeof(((struct shoal_failure *)0)->text)];
};

static int begin(struct got *g, uint32_t n, struct shoal_failure *why);

static bool on_event(void *ctx, const struct shoal_event *e) {
    struct got *g = ctx;
    if (g->lasts > 0) g->events_after_last++;
    if (e->choice >= CHOICES) {
        g->wrong = true;
        return true;
    }
    if (e->kind == SHOAL_TOKEN) {
        g->wrong |= e->offset != g->tokens[e->choice] || e->token != 1000 + e->offset || g->ended[e->choice] > 0;
        g->tokens[e->choice]++;
        if (++g->total == g->stop_after) return false;
    }
    if (e->kind == SHOAL_FAILED) snprintf(g->why, sizeof g->why, "%s", e->failure->text);
    if (e->kind == SHOAL_DONE || e->kind == SHOAL_FAILED) g->ended[e->choice]++;
    g->failed += e->kind == SHOAL_FAILED;
    g->lasts += e->last;
    if (e->last && g->start_next) begin(g->start_next, CHOICES, NULL);
    return true;
}

static int begin(struct got *g, uint32_t n, struct shoal_failure *why) {
    struct shoal_request r = SHOAL_REQUEST_INIT;
    r.model = "tiny", r.messages_json = "[]", r.deadline_ms = 20000, r.n = n;
    return shoal_start(g->shoal, &r, on_event, g, why);
}

static struct shoal *open_client(const char *routers) {
    struct shoal_options o = {.size = sizeof o, .routers = routers, .connect_ms = 5000, .silence_ms = 600};
    struct shoal *s;
    struct shoal_failure why;
    if (shoal_open(&o, &s, &why) != 0) fail_msg("%s", why.text);
    return s;
}

// Dispatches until no call is left.
static void run(struct shoal *s) {
    struct pollfd p = {.fd = shoal_fd(s), .events = POLLIN};
    while (shoal_dispatch(s) > 0)
        if (poll(&p, 1, PATIENCE_MS) != 1) fail_msg("nothing happened for %d ms", PATIENCE_MS);
    assert_int_equal(poll(&p, 1, 0), 0); // quiet, since there is nothing to tell
}

static void assert_whole(const struct got *g, uint32_t n) {
    if (g->failed) fail_msg("failed: %s", g->why);
    assert_false(g->wrong);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(g->tokens[i], TOKENS);
        assert_int_equal(g->ended[i], 1);
    }
    assert_int_equal(g->lasts, 1);
    assert_int_equal(g->events_after_last, 0);
}

static void many_calls_with_choices_end_whole_on_one_thread(void **state) {
    const enum fake_fault faults[] = {FAKE_RIGHT, FAKE_DOUBLE, FAKE_GAP};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct fake_router *f = fake_start(&(struct fake_options){.fault = faults[i]});
        struct shoal *s = open_client(fake_address(f));
        struct got calls[CALLS] = {0}, next = {.shoal = s};
        for (uint32_t c = 0; c < CALLS; c++) {
            calls[c].shoal = s;
            if (c == 7) calls[c].start_next = &next;
            assert_int_equal(begin(&calls[c], c % 2 ? CHOICES : 0, NULL), 0);
        }
        run(s);
        for (uint32_t c = 0; c < CALLS; c++) assert_whole(&calls[c], c % 2 ? CHOICES : 1);
        assert_whole(&next, CHOICES);
        shoal_close(s);
        fake_stop(f);
    }
}

static void all_choices_of_one_call_block_until_the_last(void **state) {
    struct fake_router *f = fake_start(&(struct fake_options){.fault = FAKE_RIGHT});
    struct shoal *s = open_client(fake_address(f));
    struct got g = {.shoal = s};
    struct shoal_request r = SHOAL_REQUEST_INIT;
    r.model = "tiny", r.messages_json = "[]", r.n = CHOICES;
    assert_int_equal(shoal_generate(s, &r, on_event, &g, NULL), 0);
    assert_whole(&g, CHOICES);
    r.n = 33;
    struct shoal_failure why;
    assert_int_equal(shoal_generate(s, &r, on_event, &g, &why), -1);
    assert_string_equal(why.param, "n");
    shoal_close(s);
    fake_stop(f);
}

static void a_callback_that_says_no_ends_all_choices(void **state) {
    struct fake_router *f = fake_start(&(struct fake_options){.pace_ms = 20});
    struct shoal *s = open_client(fake_address(f));
    struct got g = {.shoal = s, .stop_after = 5};
    assert_int_equal(begin(&g, CHOICES, NULL), 0);
    run(s);
    assert_int_equal(g.failed, CHOICES);
    assert_int_equal(g.total, 5);
    assert_int_equal(g.lasts, 1);
    shoal_close(s);
    fake_stop(f);
}

static void closing_with_calls_in_progress_is_silent_and_whole(void **state) {
    struct fake_router *f = fake_start(&(struct fake_options){.pace_ms = 50});
    struct shoal *s = open_client(fake_address(f));
    struct got calls[CALLS] = {0};
    for (uint32_t c = 0; c < CALLS; c++) {
        calls[c].shoal = s;
        assert_int_equal(begin(&calls[c], CHOICES, NULL), 0);
    }
    struct pollfd p = {.fd = shoal_fd(s), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(shoal_dispatch(s), CALLS);
    shoal_close(s);
    for (uint32_t c = 0; c < CALLS; c++) assert_int_equal(calls[c].lasts, 0);
    fake_stop(f);
}

static void a_killed_router_costs_no_choice_a_token(void **state) {
    struct fake_router *a = fake_start(&(struct fake_options){.fault = FAKE_STALL, .name = "a"}),
                       *b = fake_start(&(struct fake_options){.name = "b"});
    char both[256];
    snprintf(both, sizeof both, "%s,%s", fake_address(a), fake_address(b));
    struct shoal *s = open_client(both);
    struct got calls[CALLS] = {0};
    struct pollfd p = {.fd = shoal_fd(s), .events = POLLIN};
    for (uint32_t c = 0; c < CALLS; c++) {
        calls[c].shoal = s;
        assert_int_equal(begin(&calls[c], CHOICES, NULL), 0);
    }
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    shoal_dispatch(s);
    fake_stop(a);
    run(s);
    for (uint32_t c = 0; c < CALLS; c++) assert_whole(&calls[c], CHOICES);
    shoal_close(s);
    fake_stop(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_calls_with_choices_end_whole_on_one_thread),
        cmocka_unit_test(all_choices_of_one_call_block_until_the_last),
        cmocka_unit_test(a_callback_that_says_no_ends_all_choices),
        cmocka_unit_test(closing_with_calls_in_progress_is_silent_and_whole),
        cmocka_unit_test(a_killed_router_costs_no_choice_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
