// A pool of threads for loops of a few microseconds: workers spin for 20 µs between loops, then sleep on a futex, because
// the process's input and output share the cores. The caller of pool_for is worker 0. Workers run with the kernels'
// floating-point state.
#pragma once
#include <stdint.h>

struct pool;

// Iterations [begin, end) on thread `thread` (0 ... threads - 1).
typedef void pool_fn(void *context, uint32_t begin, uint32_t end, uint32_t thread);

// threads 0: as many as the affinity mask and the cgroup's cpu.max allow.
struct pool *pool_create(uint32_t threads);
void pool_destroy(struct pool **pool);
uint32_t pool_threads(const struct pool *pool);
// Runs [0, n) in pieces of `grain`, which threads take one after the other, and returns when all is done. A loop of one
// piece runs in the caller without waking anyone.
void pool_for(struct pool *pool, uint32_t n, uint32_t grain, pool_fn *fn, void *context);
// The number that 0 stands for.
uint32_t pool_default_threads(void);
