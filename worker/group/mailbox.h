// A bounded queue of owned pointers from any thread to one thread, which may wait for the next with a limit. Full is an
// answer: the senders of this room bound what is under way, so a full mailbox is a peer that breaks the grammar.
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    void **items; // a ring
    uint32_t capacity, first, count;
    bool nudged;
};

void mailbox_init(struct mailbox *m, uint32_t capacity);
void mailbox_fini(struct mailbox *m, void (*release)(void *item));
// Takes *item over, or returns false and leaves it.
bool mailbox_push(struct mailbox *m, void *item);
// NULL: nothing came within wait_ms, or somebody nudged.
void *mailbox_pop(struct mailbox *m, uint32_t wait_ms);
// Ends the wait that is under way, or the next one. Who only looks (wait_ms 0) leaves it to who waits.
void mailbox_nudge(struct mailbox *m);
