#include "worker/link/router_links.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "proto/codec.h"
#include "worker/link/discover.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOG_PERIOD_MS = 10000 };

// One router that we dial. Its link changes with each connection.
struct dialled {
    struct router_links *owner;
    struct net_dealer *dealer; // NULL: the entry is free
    link_id link;              // 0: not connected
    bool wanted;
    char address[ADDRESS_SIZE];
};

struct router_links {
    struct router_links_options options;
    struct worker_core *core;
    struct discover *discover;
    struct dialled routers[ROUTERS_MAX];
    link_id next_id;
    struct error first_failure;
    struct buf frame;
    struct codec_arena arena;
    struct router_links_stats stats;
    struct log_limit garbage_log, shut_out_log;
};

static struct dialled *by_link(struct router_links *l, link_id link) {
    for (size_t i = 0; i < ARRAY_LEN(l->routers); i++)
        if (l->routers[i].dealer && l->routers[i].link == link) return &l->routers[i];
    return NULL;
}

static void send_message(void *ctx, link_id link, const struct msg *m) {
    struct router_links *l = ctx;
    struct dialled *d = by_link(l, link);
    if (d == NULL) return;
    buf_reset(&l->frame);
    if (!codec_encode(m, &l->frame)) {
        log_warn("frame_too_large", "kind=%s", msg_kind_name(m->kind));
        return;
    }
    bool sent = net_dealer_send(d->dealer, l->frame.data, l->frame.len) == NET_SENT;
    l->stats.frames_out += sent;
    l->stats.bytes_out += sent ? l->frame.len : 0;
    l->stats.refused += !sent; // a broken connection is reported by on_disconnected
}

struct sink router_links_sink(struct router_links *l) {
    return (struct sink){.ctx = l, .send = send_message};
}

static void on_frame(void *ctx, const void *data, size_t len) {
    struct dialled *d = ctx;
    struct router_links *l = d->owner;
    struct error e = {0};
    struct msg m;
    if (d->link == 0) return;
    l->stats.frames_in++;
    l->stats.bytes_in += len;
    if (codec_decode(data, len, &l->arena, &m, &e) != ERR_NONE) {
        l->stats.garbage++;
        log_limited(&l->garbage_log, LOG_PERIOD_MS, LEVEL_WARN, "frame_refused", "router=%s bytes=%zu reason=%s", d->address,
                    len, error_text(&e));
    } else {
        worker_core_message(l->core, d->link, &m, clock_ms());
    }
    codec_arena_reset(&l->arena);
}

static void on_connected(void *ctx) {
    struct dialled *d = ctx;
    d->link = ++d->owner->next_id;
    log_info("router_connected", "address=%s", d->address);
    worker_core_link_opened(d->owner->core, d->link, clock_ms());
}

static void on_disconnected(void *ctx) {
    struct dialled *d = ctx;
    link_id link = d->link;
    d->link = 0;
    if (link == 0) return;
    log_info("router_disconnected", "address=%s", d->address);
    worker_core_link_closed(d->owner->core, link, clock_ms());
}

static void on_shut_out(void *ctx, const char *why) {
    struct dialled *d = ctx;
    log_limited(&d->owner->shut_out_log, LOG_PERIOD_MS, LEVEL_WARN, "router_refused", "address=%s reason=%s", d->address,
                why);
}

static void dial(struct router_links *l, const char *address) {
    struct dialled *d = NULL;
    for (size_t i = 0; i < ARRAY_LEN(l->routers) && !d; i++)
        if (l->routers[i].dealer == NULL) d = &l->routers[i];
    if (d == NULL) return; // config bounds the list, discover the others
    struct error e = {0};
    *d = (struct dialled){.owner = l, .wanted = true};
    snprintf(d->address, sizeof d->address, "%s", address);
    struct net_dealer_options net = {.loop = l->options.loop,
                                     .address = d->address,
                                     .security = guard_security(l->options.guard),
                                     .on_shut_out = on_shut_out,
                                     .ctx = d,
                                     .on_frame = on_frame,
                                     .on_connected = on_connected,
                                     .on_disconnected = on_disconnected};
    if (net_dealer_create(&net, &d->dealer, &e) == ERR_NONE) return;
    log_error("router_not_dialled", "address=%s reason=%s", address, error_text(&e));
    if (l->first_failure.id == ERR_NONE) l->first_failure = e;
}

static void hang_up(struct dialled *d) {
    link_id link = d->link;
    d->link = 0;
    net_dealer_destroy(&d->dealer);
    if (link) worker_core_link_closed(d->owner->core, link, clock_ms());
}

static void on_routers(void *ctx, const char (*addresses)[ADDRESS_SIZE], uint32_t n) {
    struct router_links *l = ctx;
    for (size_t r = 0; r < ARRAY_LEN(l->routers); r++) l->routers[r].wanted = false;
    for (uint32_t i = 0; i < n; i++) {
        bool known = false;
        for (size_t r = 0; r < ARRAY_LEN(l->routers) && !known; r++) {
            struct dialled *d = &l->routers[r];
            known = d->dealer && strcmp(d->address, addresses[i]) == 0;
            if (known) d->wanted = true;
        }
        if (!known) dial(l, addresses[i]);
    }
    for (size_t r = 0; r < ARRAY_LEN(l->routers); r++)
        if (l->routers[r].dealer && !l->routers[r].wanted) hang_up(&l->routers[r]);
}

struct router_links *router_links_create(const struct router_links_options *options) {
    struct router_links *l = xcalloc(1, sizeof *l);
    l->options = *options;
    return l;
}

err_id router_links_run(struct router_links *l, struct worker_core *core, struct error *e) {
    l->core = core;
    l->discover = discover_start(l->options.loop, &l->options.routers, on_routers, l);
    if (l->first_failure.id != ERR_NONE && e) *e = l->first_failure;
    return l->first_failure.id;
}

void router_links_turn(struct router_links *l) {
    link_id dead;
    while (worker_core_next_dead_link(l->core, &dead)) {
        struct dialled *d = by_link(l, dead);
        if (d == NULL) continue;
        log_info("router_silent", "address=%s", d->address);
        d->link = 0; // the core has dropped it already
        net_dealer_redial(d->dealer);
    }
}

void router_links_keys_changed(struct router_links *l) {
    for (size_t i = 0; i < ARRAY_LEN(l->routers); i++)
        if (l->routers[i].dealer) net_dealer_check_key(l->routers[i].dealer);
}

void router_links_stats(const struct router_links *l, struct router_links_stats *out) {
    *out = l->stats;
    for (size_t i = 0; i < ARRAY_LEN(l->routers); i++) {
        out->dialled += l->routers[i].dealer != NULL;
        out->connected += l->routers[i].dealer != NULL && l->routers[i].link != 0;
    }
}

void router_links_destroy(struct router_links **handle) {
    struct router_links *l = *handle;
    *handle = NULL;
    if (l == NULL) return;
    discover_stop(&l->discover);
    for (size_t i = 0; i < ARRAY_LEN(l->routers); i++)
        if (l->routers[i].dealer) net_dealer_destroy(&l->routers[i].dealer);
    codec_arena_free(&l->arena);
    buf_free(&l->frame);
    free(l);
}
