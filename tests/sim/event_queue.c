#include "tests/sim/event_queue.h"

#include "common/base/check.h"

#include <stdlib.h>

static inline bool before(const struct event *a, const struct event *b) {
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

void event_queue_push(struct event_queue *q, us_t at, event_fn *fn, void *ctx, uint64_t arg, bool owned) {
    if (q->count == q->capacity) {
        q->capacity = q->capacity ? q->capacity * 2 : 1024;
        q->heap = xrealloc(q->heap, q->capacity * sizeof *q->heap);
    }
    struct event e = {at, q->numbers++ << 1 | owned, fn, ctx, arg};
    uint32_t i = q->count++;
    while (i > 0 && before(&e, &q->heap[(i - 1) / 2])) {
        q->heap[i] = q->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    q->heap[i] = e;
}

bool event_queue_pop(struct event_queue *q, struct event *out) {
    if (q->count == 0) return false;
    *out = q->heap[0];
    struct event last = q->heap[--q->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= q->count) break;
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child])) child++;
        if (!before(&q->heap[child], &last)) break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    if (q->count > 0) q->heap[i] = last;
    return true;
}

void event_queue_free(struct event_queue *q) {
    free(q->heap);
    *q = (struct event_queue){0};
}
