#include "worker/core/link.h"

#include "common/base/check.h"

#include <stdlib.h>

struct link *link_find(const struct link_list *l, link_id id) {
    for (uint32_t i = 0; i < l->count; i++)
        if (l->links[i]->id == id) return l->links[i];
    return NULL;
}

struct link *link_add(struct link_list *l, link_id id, uint32_t heartbeat_ms, ms_t now) {
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 8;
        l->links = xrealloc(l->links, l->capacity * sizeof(struct link *));
    }
    struct link *link = xcalloc(1, sizeof *link);
    link->id = id;
    link->heartbeat_ms = heartbeat_ms;
    link->asked_at = now;
    link_health_init(&link->health, now);
    l->links[l->count++] = link;
    return link;
}

void link_remove(struct link_list *l, struct link *link) {
    uint32_t i = 0;
    while (l->links[i] != link) i++;
    for (l->count--; i < l->count; i++) l->links[i] = l->links[i + 1];
    free(link);
}

void link_note_dead(struct link_list *l, link_id id) {
    if (l->n_dead == l->dead_capacity) {
        l->dead_capacity = l->dead_capacity ? 2 * l->dead_capacity : 8;
        l->dead = xrealloc(l->dead, l->dead_capacity * sizeof *l->dead);
    }
    l->dead[l->n_dead++] = id;
}

bool link_next_dead(struct link_list *l, link_id *id) {
    if (l->n_dead == 0) return false;
    *id = l->dead[0];
    l->n_dead--;
    for (uint32_t i = 0; i < l->n_dead; i++) l->dead[i] = l->dead[i + 1];
    return true;
}

void link_list_free(struct link_list *l) {
    for (uint32_t i = 0; i < l->count; i++) free(l->links[i]);
    free(l->links);
    free(l->dead);
    *l = (struct link_list){0};
}
