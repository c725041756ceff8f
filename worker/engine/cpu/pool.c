// Design notes. A loop is announced by bumping `epoch`, which workers wait on. Who wakes joins the `crew`, if the loop is
// still open, and takes pieces from `next`. When none is left, the caller closes the loop and waits for the crew alone: a
// worker that another process keeps from running holds nobody up unless it is in the middle of a piece. Who waits spins
// first; the other side only makes the futex call when `sleepers` says that someone might sleep (all sequentially
// consistent).
#include "worker/engine/cpu/pool.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "common/base/check.h"
#include "worker/engine/cpu/kernels.h"

enum { SPIN_NS = 20000, SPINS_PER_LOOK = 64, THREADS_MAX = 256 };
#define CREW_OPEN (1u << 31) // beside the number of workers in the loop

// A counter that threads wait on to change.
struct gate {
    _Alignas(64) atomic_uint value;
    atomic_uint sleepers;
};

struct worker {
    struct pool *pool;
    uint32_t index;
    pthread_t thread;
};

struct pool {
    uint32_t threads;
    struct worker *workers; // [threads], 0 unused
    struct gate epoch, crew;
    _Alignas(64) atomic_uint next;
    atomic_bool stop;
    pool_fn *fn; // these four change only while the loop is closed and the crew gone
    void *context;
    uint32_t n, grain;
};

static void relax(void) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// Until gate->value != seen; the new value.
static unsigned gate_wait(struct gate *g, unsigned seen) {
    unsigned value;
    uint64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if ((value = atomic_load(&g->value)) != seen) return value;
            relax();
        }
    } while (now_ns() < until);
    atomic_fetch_add(&g->sleepers, 1);
    while ((value = atomic_load(&g->value)) == seen) syscall(SYS_futex, &g->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
    return value;
}

static void gate_add(struct gate *g, unsigned n) {
    atomic_fetch_add(&g->value, n);
    if (atomic_load(&g->sleepers) > 0) syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, THREADS_MAX, NULL, NULL, 0);
}

static void take_pieces(struct pool *p, uint32_t thread) {
    uint32_t begin;
    while ((begin = atomic_fetch_add(&p->next, p->grain)) < p->n) {
        uint32_t left = p->n - begin;
        p->fn(p->context, begin, begin + (left < p->grain ? left : p->grain), thread);
    }
}

static bool join_crew(struct pool *p) {
    unsigned crew = atomic_load(&p->crew.value);
    do {
        if (!(crew & CREW_OPEN)) return false;
    } while (!atomic_compare_exchange_weak(&p->crew.value, &crew, crew + 1));
    return true;
}

static void *worker_main(void *argument) {
    struct worker *w = argument;
    struct pool *p = w->pool;
    kernels_enter();
    for (unsigned seen = 0;;) {
        seen = gate_wait(&p->epoch, seen);
        if (atomic_load(&p->stop)) return NULL;
        if (!join_crew(p)) continue;
        take_pieces(p, w->index);
        gate_add(&p->crew, -1u);
    }
}

void pool_for(struct pool *p, uint32_t n, uint32_t grain, pool_fn *fn, void *context) {
    if (n == 0) return;
    if (p->threads == 1 || n <= grain) {
        fn(context, 0, n, 0);
        return;
    }
    p->fn = fn;
    p->context = context;
    p->n = n;
    p->grain = grain;
    atomic_store(&p->next, 0);
    atomic_store(&p->crew.value, CREW_OPEN);
    gate_add(&p->epoch, 1);
    take_pieces(p, 0);
    unsigned crew = atomic_fetch_and(&p->crew.value, ~CREW_OPEN) & ~CREW_OPEN;
    while (crew != 0) crew = gate_wait(&p->crew, crew);
}

struct pool *pool_create(uint32_t threads) {
    if (threads == 0) threads = pool_default_threads();
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    CHECK(p != NULL);
    memset(p, 0, sizeof *p);
    p->workers = xcalloc(threads, sizeof *p->workers);
    p->threads = 1;
    for (uint32_t i = 1; i < threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .index = i};
        if (pthread_create(&p->workers[i].thread, NULL, worker_main, &p->workers[i]) != 0) break; // fewer will do
        p->threads++;
    }
    return p;
}

void pool_destroy(struct pool **pool) {
    struct pool *p = *pool;
    if (p == NULL) return;
    atomic_store(&p->stop, true);
    gate_add(&p->epoch, 1);
    for (uint32_t i = 1; i < p->threads; i++) pthread_join(p->workers[i].thread, NULL);
    free(p->workers);
    free(p);
    *pool = NULL;
}

uint32_t pool_threads(const struct pool *p) { return p->threads; }

// ---- how many ----

// quota / period of this process's cgroup (version 2), or 0 when there is no limit.
static double cgroup_cpus(void) {
    char path[512] = "", line[400];
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL) return 0;
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "0::/", 4) != 0) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", strcmp(line + 3, "/") == 0 ? "" : line + 3);
    }
    fclose(f);
    double quota, period;
    f = fopen(path, "re");
    if (f == NULL) f = fopen("/sys/fs/cgroup/cpu.max", "re"); // inside a cgroup namespace
    if (f == NULL) return 0;
    int n = fscanf(f, "%lf %lf", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? quota / period : 0;
}

uint32_t pool_default_threads(void) {
    cpu_set_t set;
    uint32_t n = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
    double limit = cgroup_cpus();
    if (limit > 0 && limit < n) n = (uint32_t)(limit + 0.999);
    return n < 1 ? 1 : n;
}
