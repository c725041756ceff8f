#include "tests/unit/common/net/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static void set_flag(uv_timer_t *timer) { *(bool *)timer->data = true; }
static void ignore(uv_handle_t *handle) {}

// The timer lives on the stack of run_*: closed and gone before they return.
static void close_timer(uv_loop_t *loop, uv_timer_t *timer) {
    uv_close((uv_handle_t *)timer, ignore);
    uv_run(loop, UV_RUN_NOWAIT);
}

void run_until(uv_loop_t *loop, bool (*condition)(void *ctx), void *ctx, const char *what) {
    bool late = false;
    uv_timer_t timer;
    uv_timer_init(loop, &timer);
    timer.data = &late;
    uv_timer_start(&timer, set_flag, UNTIL_MS, 0);
    while (!condition(ctx) && !late) uv_run(loop, UV_RUN_ONCE);
    close_timer(loop, &timer);
    if (late) fail_msg("not within %d ms: %s", UNTIL_MS, what);
}

void run_for(uv_loop_t *loop, unsigned ms) {
    bool over = false;
    uv_timer_t timer;
    uv_timer_init(loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, set_flag, ms, 0);
    while (!over) uv_run(loop, UV_RUN_ONCE);
    close_timer(loop, &timer);
}

static void count_open(uv_handle_t *handle, void *arg) { *(int *)arg += !uv_is_closing(handle); }

void loop_finish(uv_loop_t *loop) {
    int open = 0;
    uv_walk(loop, count_open, &open);
    assert_int_equal(open, 0);
    while (uv_run(loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(uv_loop_close(loop), 0);
}
