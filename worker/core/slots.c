#include "worker/core/slots.h"

#include "common/base/check.h"

#include <stdlib.h>

void slot_map_init(struct slot_map *m, uint32_t count) {
    *m = (struct slot_map){.count = count, .n_free = count};
    m->held = xcalloc(count, sizeof(struct sequence *));
    m->free = xcalloc(count, sizeof *m->free);
    for (uint32_t i = 0; i < count; i++) m->free[i] = count - 1 - i;
}

void slot_map_fini(struct slot_map *m) {
    free(m->held);
    free(m->free);
    *m = (struct slot_map){0};
}

uint32_t slot_map_take(struct slot_map *m, struct sequence *seq) {
    if (m->n_free == 0) return SLOT_NONE;
    uint32_t slot = m->free[--m->n_free];
    CHECK(m->held[slot] == NULL);
    m->held[slot] = seq;
    return slot;
}

void slot_map_give(struct slot_map *m, uint32_t slot) {
    CHECK(slot < m->count && m->held[slot] != NULL);
    m->held[slot] = NULL;
    m->free[m->n_free++] = slot;
}

void slot_map_check(const struct slot_map *m) {
    uint32_t held = 0;
    for (uint32_t i = 0; i < m->count; i++) held += m->held[i] != NULL;
    CHECK(held + m->n_free == m->count);
    for (uint32_t i = 0; i < m->n_free; i++) CHECK(m->free[i] < m->count && m->held[m->free[i]] == NULL);
}
