// What is going to happen in the simulated world, by virtual time: a binary heap. Things at the same time happen in the
// order in which they were put in, so a run depends on nothing but its seed.
#pragma once
#include "tests/sim/options.h"

struct world;
typedef void event_fn(struct world *w, void *ctx, uint64_t arg);

struct event {
    us_t at;
    uint64_t number; // of insertion: the tie-break. Its lowest bit: ctx belongs to the event, whose function frees it
    event_fn *fn;
    void *ctx;
    uint64_t arg;
};

struct event_queue {
    struct event *heap; // owned
    uint32_t count, capacity;
    uint64_t numbers;
};

void event_queue_push(struct event_queue *q, us_t at, event_fn *fn, void *ctx, uint64_t arg, bool owned);
static inline bool event_owns(const struct event *e) { return e->number & 1; }
bool event_queue_pop(struct event_queue *q, struct event *out); // false: empty
void event_queue_free(struct event_queue *q);
