#include "common/base/spsc.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

void spsc_init(struct spsc *q, size_t item_size, size_t capacity_min) {
    size_t capacity = 2;
    while (capacity < capacity_min) capacity *= 2;
    q->items = xmalloc(item_size * capacity);
    q->item_size = item_size;
    q->mask = capacity - 1;
    atomic_init(&q->head, 0);
    atomic_init(&q->tail, 0);
}

void spsc_fini(struct spsc *q) {
    free(q->items);
    q->items = NULL;
}

bool spsc_push(struct spsc *q, const void *item) {
    size_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&q->head, memory_order_acquire) > q->mask) return false;
    memcpy(q->items + (tail & q->mask) * q->item_size, item, q->item_size);
    atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
    return true;
}

bool spsc_pop(struct spsc *q, void *item) {
    size_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&q->tail, memory_order_acquire)) return false;
    memcpy(item, q->items + (head & q->mask) * q->item_size, q->item_size);
    atomic_store_explicit(&q->head, head + 1, memory_order_release);
    return true;
}
