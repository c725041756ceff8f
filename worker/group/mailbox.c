#include "worker/group/mailbox.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <time.h>

void mailbox_init(struct mailbox *m, uint32_t capacity) {
    *m = (struct mailbox){.capacity = capacity, .items = xcalloc(capacity, sizeof(void *))};
    pthread_condattr_t attributes;
    CHECK(pthread_mutex_init(&m->lock, NULL) == 0);
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&m->filled, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

void mailbox_fini(struct mailbox *m, void (*release)(void *item)) {
    for (uint32_t i = 0; i < m->count; i++) release(m->items[(m->first + i) % m->capacity]);
    pthread_cond_destroy(&m->filled);
    pthread_mutex_destroy(&m->lock);
    free(m->items);
    *m = (struct mailbox){0};
}

bool mailbox_push(struct mailbox *m, void *item) {
    pthread_mutex_lock(&m->lock);
    bool room = m->count < m->capacity;
    if (room) m->items[(m->first + m->count++) % m->capacity] = item;
    pthread_cond_signal(&m->filled);
    pthread_mutex_unlock(&m->lock);
    return room;
}

void *mailbox_pop(struct mailbox *m, uint32_t wait_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&m->lock);
    while (m->count == 0 && !m->nudged && wait_ms > 0)
        if (pthread_cond_timedwait(&m->filled, &m->lock, &until) != 0) break;
    if (wait_ms > 0) m->nudged = false;
    void *item = m->count > 0 ? m->items[m->first] : NULL;
    if (item != NULL) {
        m->first = (m->first + 1) % m->capacity;
        m->count--;
    }
    pthread_mutex_unlock(&m->lock);
    return item;
}

void mailbox_nudge(struct mailbox *m) {
    pthread_mutex_lock(&m->lock);
    m->nudged = true;
    pthread_cond_signal(&m->filled);
    pthread_mutex_unlock(&m->lock);
}
