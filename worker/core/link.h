// The connections to routers: what each has been told and when something must be said. Held in the order of opening.
#pragma once
#include "common/delivery/link_health.h"
#include "common/base/message.h"

struct link {
    link_id id;
    struct link_health health;
    bool greeted;      // the router has said Hello
    bool incompatible; // … in a protocol that is not ours: all else is ignored
    incarnation_t incarnation;
    uint32_t heartbeat_ms; // something is said at least this often
    ms_t asked_at;         // a stranger was last asked for its Hello
    uint64_t generates_seen;
    uint64_t status_seq;
    uint32_t touched, aged; // status groups
    ms_t status_at, full_at;
};

struct link_list {
    struct link **links;
    uint32_t count, capacity;
    link_id *dead; // not yet told to the shell
    uint32_t n_dead, dead_capacity;
};

struct link *link_find(const struct link_list *l, link_id id);
struct link *link_add(struct link_list *l, link_id id, uint32_t heartbeat_ms, ms_t now);
void link_remove(struct link_list *l, struct link *link);
void link_note_dead(struct link_list *l, link_id id);
bool link_next_dead(struct link_list *l, link_id *id);
void link_list_free(struct link_list *l);
