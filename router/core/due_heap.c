#include "router/core/due_heap.h"

#include "common/base/check.h"

#include <stdlib.h>

static void put(struct due_heap *h, uint32_t place, struct due *d) {
    h->items[place - 1] = d;
    d->place = place;
}

static void rise(struct due_heap *h, struct due *d) {
    uint32_t place = d->place;
    while (place > 1 && h->items[place / 2 - 1]->at > d->at) {
        put(h, place, h->items[place / 2 - 1]);
        place /= 2;
    }
    put(h, place, d);
}

static void sink_down(struct due_heap *h, struct due *d) {
    uint32_t place = d->place;
    for (;;) {
        uint32_t child = place * 2;
        if (child > h->count) break;
        if (child < h->count && h->items[child]->at < h->items[child - 1]->at) child++;
        if (h->items[child - 1]->at >= d->at) break;
        put(h, place, h->items[child - 1]);
        place = child;
    }
    put(h, place, d);
}

static void take_out(struct due_heap *h, struct due *d) {
    CHECK(d->place <= h->count && h->items[d->place - 1] == d);
    struct due *last = h->items[--h->count];
    if (last != d) {
        put(h, d->place, last);
        rise(h, last);
        sink_down(h, last);
    }
    d->place = 0;
}

void due_set(struct due_heap *h, struct due *d, ms_t at) {
    if (at == MS_NEVER) {
        if (d->place) take_out(h, d);
        d->at = at;
        return;
    }
    d->at = at;
    if (d->place == 0) {
        if (h->count == h->capacity) {
            h->capacity = h->capacity ? h->capacity * 2 : 64;
            h->items = xrealloc(h->items, h->capacity * sizeof *h->items);
        }
        put(h, ++h->count, d);
    }
    rise(h, d);
    sink_down(h, d);
}

void due_sooner(struct due_heap *h, struct due *d, ms_t at) {
    if (d->place == 0 || at < d->at) due_set(h, d, at);
}

struct due *due_pop(struct due_heap *h, ms_t now) {
    if (h->count == 0 || h->items[0]->at > now) return NULL;
    struct due *d = h->items[0];
    take_out(h, d);
    return d;
}

ms_t due_next(const struct due_heap *h) { return h->count ? h->items[0]->at : MS_NEVER; }

void due_heap_free(struct due_heap *h) {
    free(h->items);
    *h = (struct due_heap){0};
}
