// Sessions that wait for a candidate, first come first served, those to be placed again (or pinned) ahead. Keeps the sum of
// their expected work. Entries live inside sessions.
#pragma once
#include "router/core/list.h"
#include <stdint.h>

struct wait_entry {
    struct list node;
    struct wait_queue *queue; // that it waits in, or NULL
    bool urgent;
    uint32_t prompt, decode; // its reservation: expected tokens
};

struct wait_queue {
    struct list urgent, fresh;
    uint32_t count, count_urgent;
    uint64_t prompt, decode; // sums of the reservations
};

void wait_queue_init(struct wait_queue *q);
void wait_queue_push(struct wait_queue *q, struct wait_entry *e, bool urgent, uint32_t prompt, uint32_t decode);
void wait_queue_remove(struct wait_entry *e); // releases the reservation; nothing happens if it waits nowhere
