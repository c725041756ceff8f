// What has to be looked at, and when: a binary heap of times that live inside their owners. Moving a time later is lazy (the
// owner is looked at too early once and sets itself again), so that the token path costs no heap operation.
#pragma once
#include "common/base/ids.h"

enum due_kind { DUE_SESSION, DUE_LINK };

struct due {
    ms_t at;
    uint32_t place; // in the heap, from 1; 0: not in it
    enum due_kind kind;
};

struct due_heap {
    struct due **items; // owned; items[0] is place 1
    uint32_t count, capacity;
};

void due_set(struct due_heap *h, struct due *d, ms_t at);    // MS_NEVER takes it out
void due_sooner(struct due_heap *h, struct due *d, ms_t at); // only if `at` is before the present time
// Takes out and returns the first that is due at `now`, or NULL.
struct due *due_pop(struct due_heap *h, ms_t now);
ms_t due_next(const struct due_heap *h); // MS_NEVER when empty
void due_heap_free(struct due_heap *h);
