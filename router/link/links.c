#include "router/link/links.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/base/table.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_PERIOD_MS = 10000 };

struct link {
    link_id id;
    bool broken;   // to be reported to the core at the next turn
    uint32_t peer; // dialled: index into peers; its dealer outlives this link
    bool dialled;
    struct net_identity identity; // else
    bool identified;              // and with CURVE, what its key says
    enum certificate_role role;
    char tenant[NAME_SIZE];
};

struct peer {
    struct links *owner;
    struct net_dealer *dealer;
    struct link *link; // the present connection, or NULL
    char address[ADDRESS_SIZE];
};

struct links {
    struct router_core *core;
    uv_loop_t *loop;
    struct net_router *router;
    struct table by_id, by_identity;
    link_id next_id;
    uint32_t n_broken;
    uint32_t n_peers;
    struct peer peers[ROUTERS_MAX];
    struct buf frame;
    struct codec_arena arena;
    struct links_stats stats;
    struct log_limit garbage_log, overstepped_log, shut_out_log;
    struct guard *guard;
};

static uint64_t id_hash(link_id id) { return hash_mix(id); }
static uint64_t identity_hash(const struct net_identity *p) { return hash_bytes(p->bytes, p->len, 0); }
static bool id_match(const void *entry, const void *key) {
    return ((const struct link *)entry)->id == *(const link_id *)key;
}
static bool identity_match(const void *entry, const void *key) {
    const struct net_identity *a = &((const struct link *)entry)->identity, *b = key;
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static struct link *link_of(struct links *l, link_id id) { return table_find(&l->by_id, id_hash(id), id_match, &id); }

static struct link *link_open(struct links *l, const struct net_identity *identity, struct peer *peer) {
    struct link *k = xcalloc(1, sizeof *k);
    k->id = ++l->next_id;
    if (peer) {
        k->dialled = true;
        k->peer = (uint32_t)(peer - l->peers);
        peer->link = k;
    } else {
        k->identity = *identity;
        table_add(&l->by_identity, identity_hash(&k->identity), k);
    }
    table_add(&l->by_id, id_hash(k->id), k);
    router_core_link_opened(l->core, k->id, k->dialled, clock_ms());
    return k;
}

// Forgets the connection. A peer's socket stays and dials again.
static void link_drop(struct links *l, struct link *k) {
    if (k->broken) l->n_broken--;
    if (k->dialled)
        l->peers[k->peer].link = NULL;
    else
        table_remove(&l->by_identity, identity_hash(&k->identity), k);
    table_remove(&l->by_id, id_hash(k->id), k);
    free(k);
}

static void mark_broken(struct links *l, struct link *k) {
    if (k->broken) return;
    k->broken = true;
    l->n_broken++;
}

// --- out

static void send_message(void *ctx, link_id id, const struct msg *m) {
    struct links *l = ctx;
    struct link *k = link_of(l, id);
    if (k == NULL || k->broken) return;
    buf_reset(&l->frame);
    if (!codec_encode(m, &l->frame)) {
        log_warn("frame_too_large", "kind=%s link=%u", msg_kind_name(m->kind), id);
        return;
    }
    enum net_sent sent = k->dialled ? net_dealer_send(l->peers[k->peer].dealer, l->frame.data, l->frame.len)
                                    : net_router_send(l->router, &k->identity, l->frame.data, l->frame.len);
    l->stats.frames_out += sent == NET_SENT;
    l->stats.bytes_out += sent == NET_SENT ? l->frame.len : 0;
    if (sent == NET_FULL) l->stats.full++;
    if (sent == NET_UNREACHABLE) {
        l->stats.unreachable++;
        mark_broken(l, k);
    }
}

struct sink links_sink(struct links *l) {
    return (struct sink){.ctx = l, .send = send_message};
}

// --- who may say what

static bool same_speaker(const struct net_identity *a, const struct net_identity *b) {
    return a->keyed == b->keyed && (!a->keyed || memcmp(a->key, b->key, sizeof a->key) == 0);
}

static enum role role_of(enum certificate_role role) {
    return role == CERTIFICATE_WORKER ? ROLE_WORKER : role == CERTIFICATE_ROUTER ? ROLE_ROUTER : ROLE_CLIENT;
}

static void overstepped(struct links *l, const struct link *k, const char *what) {
    const struct certificate *who = guard_who(l->guard, k->identity.key);
    l->stats.overstepped++;
    log_limited(&l->overstepped_log, LOG_PERIOD_MS, LEVEL_WARN, "key_overstepped", "certificate=%s role=%s what=%s",
                who ? who->name : "unknown", certificate_role_name(k->role), what);
}

static bool may_use_model(struct links *l, const struct link *k, const struct msg_generate *g) {
    struct msg m = {.kind = MSG_REJECTED, .rejected = {.key = g->key, .attempt = g->attempt}};
    if (guard_check_model(l->guard, k->tenant, g->model, &m.rejected.error) == ERR_NONE) return true;
    send_message(l, k->id, &m);
    return false;
}

// What clients may not say: what routers say to each other, and, but for operators, Notice.
static const char *clients_slip(const struct link *k, const struct msg *m) {
    if (m->kind == MSG_ATTACH || m->kind == MSG_MOVE_COMMIT) return "a router's message";
    if (m->kind == MSG_GENERATE && m->generate.hops > 0) return "a relayed request";
    if (m->kind == MSG_NOTICE && k->role != CERTIFICATE_OPERATOR) return "Notice, which takes an operator's certificate";
    return NULL;
}

// Holds what a keyed link says against its key, and puts the key's tenant in place of a claimed one. A router speaks for the
// tenants of its clients. False: the message goes no further.
static bool is_allowed(struct links *l, const struct link *k, struct msg *m) {
    if (m->kind == MSG_HELLO && m->hello.role != role_of(k->role)) return overstepped(l, k, "Hello in another role"), false;
    if (role_of(k->role) != ROLE_CLIENT) return true;
    const char *slip = clients_slip(k, m);
    if (slip) return overstepped(l, k, slip), false;
    if (m->kind != MSG_GENERATE) return true;
    memcpy(m->generate.tenant, k->tenant, sizeof m->generate.tenant);
    return may_use_model(l, k, &m->generate);
}

static void identify(struct links *l, struct link *k, const struct certificate *who) {
    bool known = k->identified;
    k->identified = true;
    k->role = who->role;
    memcpy(k->tenant, who->tenant, sizeof k->tenant);
    if (!known && role_of(who->role) == ROLE_CLIENT) router_core_link_tenant(l->core, k->id, who->tenant);
}

// --- in

static void on_frame(struct links *l, struct link *k, const void *data, size_t len) {
    struct error e = {0};
    struct msg m;
    l->stats.frames_in++;
    l->stats.bytes_in += len;
    if (codec_decode(data, len, &l->arena, &m, &e) != ERR_NONE) {
        l->stats.garbage++;
        log_limited(&l->garbage_log, LOG_PERIOD_MS, LEVEL_WARN, "frame_refused", "link=%u bytes=%zu reason=%s", k->id, len,
                    error_text(&e));
    } else if (k->dialled || !k->identity.keyed || is_allowed(l, k, &m)) {
        router_core_message(l->core, k->id, &m, clock_ms());
    }
    codec_arena_reset(&l->arena);
}

static void on_router_frame(void *ctx, const struct net_identity *identity, const void *data, size_t len) {
    struct links *l = ctx;
    if (l->core == NULL) return;
    struct link *k = table_find(&l->by_identity, identity_hash(identity), identity_match, identity);
    if (k && !same_speaker(&k->identity, identity)) {
        router_core_link_closed(l->core, k->id, clock_ms());
        link_drop(l, k);
        k = NULL;
    }
    const struct certificate *who = identity->keyed ? guard_who(l->guard, identity->key) : NULL;
    if (identity->keyed && who == NULL) { // connected before its certificate was taken away
        l->stats.overstepped++;
        return;
    }
    if (k == NULL) k = link_open(l, identity, NULL);
    if (who) identify(l, k, who);
    on_frame(l, k, data, len);
}

static void on_peer_frame(void *ctx, const void *data, size_t len) {
    struct peer *p = ctx;
    if (p->link != NULL) on_frame(p->owner, p->link, data, len);
}

static void on_peer_connected(void *ctx) {
    struct peer *p = ctx;
    log_info("peer_connected", "address=%s", p->address);
    link_open(p->owner, NULL, p);
}

static void on_peer_disconnected(void *ctx) {
    struct peer *p = ctx;
    if (p->link == NULL) return;
    log_info("peer_disconnected", "address=%s", p->address);
    router_core_link_closed(p->owner->core, p->link->id, clock_ms());
    link_drop(p->owner, p->link);
}

static void on_peer_shut_out(void *ctx, const char *why) {
    struct peer *p = ctx;
    log_limited(&p->owner->shut_out_log, LOG_PERIOD_MS, LEVEL_WARN, "peer_refused", "address=%s reason=%s", p->address, why);
}

// --- life

err_id links_create(const struct links_options *options, struct links **out, struct error *e) {
    struct links *l = xcalloc(1, sizeof *l);
    l->loop = options->loop;
    l->guard = options->guard;
    CHECK(options->n_peers <= ROUTERS_MAX);
    l->n_peers = options->n_peers;
    for (uint32_t i = 0; i < l->n_peers; i++) {
        l->peers[i].owner = l;
        snprintf(l->peers[i].address, sizeof l->peers[i].address, "%s", options->peers[i]);
    }
    struct net_router_options net = {.loop = l->loop, .address = options->listen, .ctx = l, .on_frame = on_router_frame};
    net.security = guard_security(l->guard);
    err_id id = net_router_create(&net, &l->router, e);
    if (id != ERR_NONE) links_destroy(&l);
    *out = l;
    return id;
}

err_id links_run(struct links *l, struct router_core *core, struct error *e) {
    l->core = core;
    for (uint32_t i = 0; i < l->n_peers; i++) {
        struct peer *p = &l->peers[i];
        struct net_dealer_options net = {.loop = l->loop,
                                         .address = p->address,
                                         .security = guard_security(l->guard),
                                         .on_shut_out = on_peer_shut_out,
                                         .ctx = p,
                                         .on_frame = on_peer_frame,
                                         .on_connected = on_peer_connected,
                                         .on_disconnected = on_peer_disconnected};
        TRY(net_dealer_create(&net, &p->dealer, e));
    }
    return ERR_NONE;
}

const char *links_endpoint(const struct links *l) { return net_router_endpoint(l->router); }

static void report_broken(struct links *l) {
    while (l->n_broken > 0) {
        struct link *k, *broken = NULL;
        for (uint32_t at = 0; broken == NULL && (k = table_next(&l->by_id, &at)) != NULL;)
            if (k->broken) broken = k;
        CHECK(broken != NULL);
        router_core_link_closed(l->core, broken->id, clock_ms());
        link_drop(l, broken);
    }
}

void links_turn(struct links *l) {
    link_id dead;
    while (router_core_next_dead_link(l->core, &dead)) {
        struct link *k = link_of(l, dead);
        if (k == NULL) continue;
        log_info("link_dead", "link=%u", dead);
        struct net_dealer *dealer = k->dialled ? l->peers[k->peer].dealer : NULL;
        link_drop(l, k);
        if (dealer) net_dealer_redial(dealer);
    }
    report_broken(l);
}

void links_keys_changed(struct links *l) {
    struct link *k;
    if (!net_security_has_keys(guard_security(l->guard))) return;
    for (uint32_t at = 0; (k = table_next(&l->by_id, &at)) != NULL;) {
        const struct certificate *who = k->dialled ? NULL : guard_who(l->guard, k->identity.key);
        if (k->dialled || (who && who->role == k->role && strcmp(who->tenant, k->tenant) == 0)) continue;
        log_info("link_cut", "link=%u reason=%s", k->id, who ? "its certificate changed" : "its certificate was taken away");
        mark_broken(l, k);
    }
    for (uint32_t i = 0; i < l->n_peers; i++)
        if (l->peers[i].dealer) net_dealer_check_key(l->peers[i].dealer);
}

void links_stats(const struct links *l, struct links_stats *out) { *out = l->stats; }

void links_destroy(struct links **handle) {
    struct links *l = *handle;
    *handle = NULL;
    if (l == NULL) return;
    for (uint32_t i = 0; i < l->n_peers; i++)
        if (l->peers[i].dealer) net_dealer_destroy(&l->peers[i].dealer);
    if (l->router) net_router_destroy(&l->router);
    struct link *k;
    for (uint32_t at = 0; (k = table_next(&l->by_id, &at)) != NULL;) free(k);
    table_free(&l->by_id);
    table_free(&l->by_identity);
    codec_arena_free(&l->arena);
    buf_free(&l->frame);
    free(l);
}
