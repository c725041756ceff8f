// Connections between simulated processes, as ZeroMQ over TCP gives them to the shells: messages of one connection arrive in
// order or not at all; a broken connection loses what is under way, and its ends learn of it at different times or never.
// The end that listens sees a connection when its first message comes, and again under a new number if it had dropped it.
#pragma once
#include "tests/sim/options.h"
#include "tests/sim/packet.h"
#include "common/delivery/stream_tx.h"

struct world;
struct node;

enum { END_DIALLER = 0, END_LISTENER = 1 };

struct conn {
    struct node *node[2];
    uint32_t lives[2]; // of the processes that it connects
    link_id link[2];   // 0: this end doesn't have it open
    bool cut[2];       // nothing arrives at this end any more
    us_t last_at[2];   // arrival of the newest message towards this end
    us_t stalled_until[2];
    struct dialler *dialler;
    uint32_t refs;
    struct conn *prev, *next; // all of them
};

// A process's wish to be connected to another: dials again whenever it isn't.
struct dialler {
    struct node *from, *to;
    struct conn *conn; // present, or NULL
    uint32_t failures;
    bool due; // a dial is planned
};

struct partition {
    uint32_t from, to; // node indices: what `from` sends does not reach `to`
    us_t until;
    bool drop; // lost; otherwise late
};

enum { PARTITIONS_MAX = 512 };

struct network {
    struct packet_pool pool;
    struct conn conns; // head of the ring
    struct partition partitions[PARTITIONS_MAX];
    uint32_t n_partitions;
};

void network_init(struct network *net);
void network_fini(struct network *net);
// From a core's sink.
void network_send(struct world *w, struct conn *c, uint8_t end, const struct msg *m);
void network_dial(struct world *w, struct dialler *d, us_t after);
// This end closes: its core has given the link up (a dialler closes the connection and dials again, a listener only
// forgets).
void network_drop(struct world *w, struct conn *c, uint8_t end);
// The connection breaks under way.
void network_break(struct world *w, struct conn *c);
// A process died: all its connections break.
void network_node_died(struct world *w, struct node *n);
// false: full.
bool network_partition(struct world *w, uint32_t from, uint32_t to, us_t until, bool drop);
void network_heal(struct network *net);
bool network_reaches(struct world *w, const struct node *from, const struct node *to);
