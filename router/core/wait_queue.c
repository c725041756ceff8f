#include "router/core/wait_queue.h"

#include "common/base/check.h"

void wait_queue_init(struct wait_queue *q) {
    *q = (struct wait_queue){0};
    list_init(&q->urgent);
    list_init(&q->fresh);
}

void wait_queue_push(struct wait_queue *q, struct wait_entry *e, bool urgent, uint32_t prompt, uint32_t decode) {
    CHECK(e->queue == NULL);
    e->queue = q;
    e->urgent = urgent;
    e->prompt = prompt;
    e->decode = decode;
    list_append(urgent ? &q->urgent : &q->fresh, &e->node);
    q->count++;
    q->count_urgent += urgent;
    q->prompt += prompt;
    q->decode += decode;
}

void wait_queue_remove(struct wait_entry *e) {
    struct wait_queue *q = e->queue;
    if (q == NULL) return;
    CHECK(q->count > 0 && q->prompt >= e->prompt && q->decode >= e->decode);
    list_remove(&e->node);
    q->count--;
    q->count_urgent -= e->urgent;
    q->prompt -= e->prompt;
    q->decode -= e->decode;
    e->queue = NULL;
}
