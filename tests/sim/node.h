// A simulated process: its life, its clock, its connections, and the turn of its loop. What kind of process it is (router,
// worker, client) is behind `ops`; this part is the same for all and plays the shell's role towards the core.
#pragma once
#include "common/base/buggify.h"
#include "tests/sim/event_queue.h"
#include "tests/sim/network.h"

struct node;

struct node_ops {
    void (*start)(struct node *n); // a new life: incarnation and clock are set
    void (*stop)(struct node *n);  // it is over, as by kill -9
    void (*opened)(struct node *n, link_id link, bool dialled);
    void (*closed)(struct node *n, link_id link);
    void (*message)(struct node *n, link_id link, const struct msg *m);
    ms_t (*tick)(struct node *n); // returns when to call again
    bool (*next_dead_link)(struct node *n, link_id *link);
    void (*check)(struct node *n);
};

enum node_kind { NODE_ROUTER, NODE_WORKER, NODE_CLIENT };

struct node {
    struct world *world;
    const struct node_ops *ops;
    enum node_kind kind;
    uint32_t index;  // among all nodes
    uint32_t number; // among its kind
    char name[NAME_SIZE];
    uint32_t region;
    bool alive;
    bool broken_for_good; // in the liveness phase: by being dead, paused or cut off
    bool cut_in, cut_out; // nothing reaches it, nothing it sends arrives
    uint32_t lives;
    incarnation_t incarnation;
    ms_t clock_offset; // processes don't share a clock
    us_t paused_until;
    us_t tick_at; // MS_NEVER: none planned
    uint32_t checks;
    uint32_t said, heard, turns; // messages, and turns of its loop, since somebody set them to 0
    link_id last_link;
    const struct msg_resend *resend; // being handled; NULL: none
    bool resend_answered;
    struct node_link *links; // owned: open connections
    uint32_t n_links, links_capacity;
    struct dialler *diallers; // owned
    uint32_t n_diallers;
};

struct node_link {
    link_id id;
    struct conn *conn;
    uint8_t end; // which end of it is ours
};

void node_init(struct node *n, struct world *w, const struct node_ops *ops, enum node_kind kind, uint32_t number,
               uint32_t region);
void node_fini(struct node *n);
void node_start(struct node *n);
void node_kill(struct node *n);
ms_t node_ms(const struct node *n); // its clock now
us_t node_us(const struct node *n, ms_t at);
// After any call into the core: a turn of the loop soon.
void node_wake(struct node *n);
void node_wake_at(struct node *n, us_t at);
// A paused or dead process does nothing: true if the event was put off (or dropped).
bool node_puts_off(struct node *n, event_fn *fn, void *ctx, uint64_t arg);
bool node_puts_off_owned(struct node *n, event_fn *fn, void *ctx, uint64_t arg); // see world_at_owned()
// What its core does that is legal but unusual, in the safety phase.
struct buggify node_buggify(struct node *n, uint32_t points);
// The sink of its core.
struct sink node_sink(struct node *n);
const char *region_name(uint32_t region); // "region-1"
