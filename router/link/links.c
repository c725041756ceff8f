#include "router/link/links.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "proto/codec.h"

#include <stdlib.h>

enum { LINKS_MAX = 65536, LOG_PERIOD_MS = 10000 };

struct links;

struct link {
    link_id id;
    bool broken;               // to be reported to the core at the next turn
    struct net_dealer *dealer; // we dialled; else the peer dialled us and has an identity
    struct net_identity identity;
    struct links *owner;
    char address[ADDRESS_SIZE];
};

struct links {
    struct router_core *core;
    uv_loop_t *loop;
    struct net_router *router;
    struct link **by_slot; // open addressing over link_id: the table of all connections
    uint32_t *by_identity; // open addressing over identities: slots of by_slot, or 0
    uint32_t count, capacity;
    link_id next_id;
    uint32_t n_broken;
    struct link *dialled[ROUTERS_MAX];
    char peers[ROUTERS_MAX][ADDRESS_SIZE];
    uint32_t n_peers;
    struct buf frame;
    struct codec_arena arena;
    struct links_stats stats;
    struct log_limit garbage_log;
};
