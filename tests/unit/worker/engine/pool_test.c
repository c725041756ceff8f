// The pool: every iteration once, on any number of threads, loop after loop, awake or asleep.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include "worker/engine/cpu/pool.h"

enum { N = 1000 };

struct work {
    atomic_uint seen[N];
    atomic_uint threads_used; // bit per thread
    atomic_uint oversized;    // pieces of more than the grain
    uint32_t grain;
};

static void visit(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    struct work *w = context;
    if (end - begin > w->grain || begin >= end) atomic_fetch_add(&w->oversized, 1);
    atomic_fetch_or(&w->threads_used, 1u << thread);
    for (uint32_t i = begin; i < end; i++) atomic_fetch_add(&w->seen[i], 1);
}

static void every_iteration_runs_once(void **state) {
    for (uint32_t threads = 1; threads <= 4; threads++) {
        struct pool *p = pool_create(threads);
        assert_int_equal(pool_threads(p), threads);
        static struct work w;
        for (uint32_t n = 0; n <= N; n = n * 3 + 1) {
            for (w.grain = 1; w.grain <= N; w.grain *= 7) {
                for (uint32_t i = 0; i < N; i++) atomic_store(&w.seen[i], 0);
                pool_for(p, n, w.grain, visit, &w);
                for (uint32_t i = 0; i < N; i++) assert_int_equal(atomic_load(&w.seen[i]), i < n);
            }
        }
        if (threads > 1) assert_int_equal(atomic_load(&w.oversized), 0); // alone, the caller takes all at once
        atomic_store(&w.oversized, 0);
        pool_destroy(&p);
        assert_null(p);
    }
}

static void one_piece_stays_with_the_caller(void **state) {
    struct pool *p = pool_create(3);
    static struct work w;
    w.grain = N;
    atomic_store(&w.threads_used, 0);
    pool_for(p, N, N, visit, &w);
    assert_int_equal(atomic_load(&w.threads_used), 1);
    pool_destroy(&p);
}

static void sleeping_workers_wake_for_the_next_loop(void **state) {
    struct pool *p = pool_create(3);
    static struct work w;
    w.grain = 10;
    for (uint32_t round = 0; round < 30; round++) {
        for (uint32_t i = 0; i < N; i++) atomic_store(&w.seen[i], 0);
        pool_for(p, N, w.grain, visit, &w);
        for (uint32_t i = 0; i < N; i++) assert_int_equal(atomic_load(&w.seen[i]), 1);
        nanosleep(&(struct timespec){.tv_nsec = (long)round * 10000}, NULL); // around the 20 µs of spinning and past it
    }
    pool_destroy(&p);
}

static void many_short_loops_in_a_row_lose_nothing(void **state) {
    struct pool *p = pool_create(2);
    static struct work w;
    w.grain = 1;
    for (uint32_t i = 0; i < N; i++) atomic_store(&w.seen[i], 0);
    for (uint32_t round = 0; round < 5000; round++) pool_for(p, 3, 1, visit, &w);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(atomic_load(&w.seen[i]), 5000);
    pool_destroy(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_iteration_runs_once),
        cmocka_unit_test(one_piece_stays_with_the_caller),
        cmocka_unit_test(sleeping_workers_wake_for_the_next_loop),
        cmocka_unit_test(many_short_loops_in_a_row_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
