#include "router/core/last_attempt.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdlib.h>

struct last_attempt {
    struct list node;
    struct stream_key key;
    uint32_t counter;
    ms_t until;
};

static bool has_key(const void *entry, const void *key) {
    return stream_key_equal(&((const struct last_attempt *)entry)->key, key);
}

static struct last_attempt *find(const struct last_attempts *l, const struct stream_key *key) {
    return table_find(&l->by_key, stream_key_hash(key), has_key, key);
}

static void forget(struct last_attempts *l, struct last_attempt *a) {
    table_remove(&l->by_key, stream_key_hash(&a->key), a);
    list_remove(&a->node);
    free(a);
}

void last_attempt_note(struct last_attempts *l, const struct stream_key *key, uint32_t counter, ms_t now) {
    struct last_attempt *a = find(l, key);
    if (a) forget(l, a);
    a = xcalloc(1, sizeof *a);
    *a = (struct last_attempt){.key = *key, .counter = counter, .until = now + LAST_ATTEMPT_MS};
    list_append(&l->oldest_first, &a->node);
    table_add(&l->by_key, stream_key_hash(key), a);
    for (;;) {
        a = LIST_ENTRY(l->oldest_first.next, struct last_attempt, node); // never none: the new one is the last
        if (a->until > now && l->by_key.count <= LAST_ATTEMPTS_MAX) return;
        forget(l, a);
    }
}

uint32_t last_attempt_counter(const struct last_attempts *l, const struct stream_key *key) {
    const struct last_attempt *a = find(l, key);
    if (a) MARK(attempt_number_remembered);
    return a ? a->counter : 0;
}

void last_attempts_free(struct last_attempts *l) {
    while (!list_empty(&l->oldest_first)) forget(l, LIST_ENTRY(l->oldest_first.next, struct last_attempt, node));
    table_free(&l->by_key);
}
