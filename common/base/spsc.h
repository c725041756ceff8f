// A bounded queue of fixed-size items between exactly one producing and one consuming thread. Never blocks: full and empty
// are answers. Items are copied in and out; memory is taken once, at init.
#pragma once
#include <stdbool.h>
#include <stdatomic.h>
#include <stddef.h>

struct spsc {
    char *items;
    size_t item_size, mask;
    _Alignas(64) _Atomic size_t head; // next to pop; written by the consumer
    _Alignas(64) _Atomic size_t tail; // next to push; written by the producer
};

void spsc_init(struct spsc *q, size_t item_size, size_t capacity_min); // capacity: the next power of two
void spsc_fini(struct spsc *q);
bool spsc_push(struct spsc *q, const void *item); // false: full
bool spsc_pop(struct spsc *q, void *item);        // false: empty
