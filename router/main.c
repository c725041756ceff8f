// shoal-router: takes requests over HTTP and ZeroMQ and spreads them over workers and peer routers. This file only puts the
// parts together: configuration and flags → links, front and core on one libuv loop → drain on SIGTERM.
#include "common/auth/guard.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/config.h"
#include "common/sys/flags.h"
#include "common/sys/log.h"
#include "common/sys/process.h"
#include "common/sys/version.h"
#include "router/front/front.h"
#include "router/link/links.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The tests build this file once more with a bug of the core planted, to see it caught.
#ifndef ROUTER_PLANTED_BUG
#define ROUTER_PLANTED_BUG ROUTER_BUG_NONE
#endif

struct settings {
    const char *config, *name, *region, *key, *http, *zmq, *admin, *metrics, *log_level;
    struct flag_list peers;
    bool check_config, print_config, config_reference;
};

struct program {
    uv_loop_t loop;
    uv_prepare_t turn;
    uv_timer_t timer;
    uv_signal_t term, interrupt, hangup;
    struct cluster_config config;
    struct guard *guard;
    struct links *links;
    struct front *front;
    struct router_core *core;
    enum { SERVING, LEAVING, DRAINING, ENDING } stage;
    ms_t stage_until; // MS_NEVER: no limit
};

enum { ENDING_MS = 2000 }; // for the last bytes to go out

// --- one turn of the loop

static void on_timer(uv_timer_t *timer) {} // wakes the loop; the work is done in on_turn

static void finish(struct program *p) {
    uv_prepare_stop(&p->turn);
    uv_timer_stop(&p->timer);
    uv_stop(&p->loop);
}

static void enter(struct program *p, int stage, uint32_t for_ms, ms_t now) {
    p->stage = stage;
    p->stage_until = for_ms > 0 ? now + for_ms : MS_NEVER;
}

// On the way out: leaving → draining → ending → gone.
static void advance(struct program *p, ms_t now) {
    if (p->stage == LEAVING && now >= p->stage_until) {
        log_info("router_draining", NULL);
        enter(p, DRAINING, p->config.timers.drain_ms, now);
        router_core_drain(p->core, now);
        front_stop(p->front);
    } else if (p->stage == DRAINING && now >= p->stage_until) {
        struct router_counters c;
        router_core_counters(p->core, &c);
        log_warn("router_hands_over", "streams=%u", c.sessions);
        enter(p, ENDING, ENDING_MS, now);
        front_hand_over(p->front, now);
    }
    bool idle = p->stage == ENDING || (p->stage == DRAINING && router_core_may_end(p->core));
    if (idle && (front_idle(p->front) || (p->stage == ENDING && now >= p->stage_until))) finish(p);
}

static void on_turn(uv_prepare_t *turn) {
    struct program *p = turn->data;
    links_turn(p->links);
    front_turn(p->front, clock_ms());
    ms_t core_next = router_core_tick(p->core, clock_ms());
    ms_t now = clock_ms(), front_next = front_turn(p->front, now);
    links_turn(p->links);
    ms_t next = core_next < front_next ? core_next : front_next;
    uv_timer_start(&p->timer, on_timer, next > now ? (uint64_t)(next - now) : 1, 0);
    if (p->stage != SERVING) advance(p, now);
}

// It is to end: not ready from now on, and serving on, so that load balancers and peers have time to notice.
static void leave(void *ctx) {
    struct program *p = ctx;
    if (p->stage != SERVING) return;
    p->stage = LEAVING;
    p->stage_until = clock_ms() + p->config.timers.leave_ms;
    log_info("router_leaving", "drains_in_ms=%u", p->config.timers.leave_ms);
    router_core_leave(p->core, clock_ms());
    front_leave(p->front);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct program *p = handle->data;
    if (p->stage != SERVING)
        finish(p); // asked twice: now
    else
        leave(p);
}

static void on_hangup(uv_signal_t *handle, int number) {
    struct program *p = handle->data;
    if (p->guard) guard_reload(p->guard); // keys and certificates; the rest of the configuration takes a restart
}

static void link_metrics(void *ctx, struct buf *out) {
    struct program *p = ctx;
    struct links_stats s;
    links_stats(p->links, &s);
    buf_printf(
        out,
        "# TYPE shoal_router_link_frames_total counter\nshoal_router_link_frames_total{direction=\"in\"} %llu\n"
        "shoal_router_link_frames_total{direction=\"out\"} %llu\n# TYPE shoal_router_link_bytes_total counter\n"
        "shoal_router_link_bytes_total{direction=\"in\"} %llu\nshoal_router_link_bytes_total{direction=\"out\"} %llu\n"
        "# TYPE shoal_router_link_garbage_total counter\nshoal_router_link_garbage_total %llu\n"
        "# TYPE shoal_router_link_overstepped_total counter\nshoal_router_link_overstepped_total %llu\n",
        (unsigned long long)s.frames_in, (unsigned long long)s.frames_out, (unsigned long long)s.bytes_in,
        (unsigned long long)s.bytes_out, (unsigned long long)s.garbage, (unsigned long long)s.overstepped);
    guard_metrics(p->guard, "shoal_router_", out);
}

static void on_keys_changed(void *ctx) {
    struct program *p = ctx;
    if (p->core) links_keys_changed(p->links);
}

// --- putting together

static void core_options(const struct program *p, const struct settings *s, struct router_core_options *o) {
    const struct cluster_config *c = &p->config;
    memset(o, 0, sizeof *o);
    snprintf(o->self.name, sizeof o->self.name, "%s", s->name);
    snprintf(o->self.region, sizeof o->self.region, "%s", s->region);
    snprintf(o->self.http, sizeof o->self.http, "%s", front_address(p->front));
    snprintf(o->self.zmq, sizeof o->self.zmq, "%s", links_endpoint(p->links));
    o->self.pid = (uint32_t)getpid();
    o->incarnation = process_random();
    o->seed = process_random();
    o->timers = (struct link_timers){c->timers.heartbeat_ms, c->timers.suspect_ms, c->timers.dead_ms};
    o->n_regions = c->n_regions;
    for (uint32_t i = 0; i < c->n_regions; i++) {
        snprintf(o->regions[i].name, sizeof o->regions[i].name, "%s", c->regions[i].name);
        o->regions[i].weight = (float)c->regions[i].weight;
        o->regions[i].spill_after_ms = c->regions[i].spill_after_ms;
    }
    for (uint32_t m = 0; m < c->n_models; m++) {
        for (uint32_t d = 0; d < c->models[m].n_deployments; d++) {
            struct router_deployment_share *share = &o->shares[o->n_shares++];
            snprintf(share->model, sizeof share->model, "%s", c->models[m].name);
            snprintf(share->deployment, sizeof share->deployment, "%s", c->models[m].deployments[d].name);
            share->share = (float)c->models[m].deployments[d].share;
            share->n_aliases = c->models[m].n_aliases;
            memcpy(share->aliases, c->models[m].aliases, sizeof share->aliases);
        }
    }
    o->sessions_max = c->limits.connections + c->limits.queue;
    o->queue_max = c->limits.queue;
    o->queue_tokens_max = c->limits.queue_tokens;
    o->held_bytes_max = c->limits.held_bytes;
    o->deadline_default_ms = c->timers.request_deadline_ms;
    o->status_full_ms = c->timers.status_ms;
    o->bug = ROUTER_PLANTED_BUG;
}

static const char *or_default(const char *flag, const char *config) { return flag ? flag : config; }

static err_id open_all(struct program *p, const struct settings *s, struct error *e) {
    const struct cluster_config *c = &p->config;
    const char *peers[ROUTERS_MAX];
    struct links_options links = {.loop = &p->loop, .listen = or_default(s->zmq, c->listen.zmq), .peers = peers};
    if (s->peers.n > ROUTERS_MAX) return error_set(e, ERR_CONFIG, "at most %d peers can be named", ROUTERS_MAX);
    for (uint32_t i = 0; i < s->peers.n; i++) peers[links.n_peers++] = s->peers.values[i];
    struct guard_options guard = {.loop = &p->loop,
                                  .config = c,
                                  .api_keys = true,
                                  .certificate = s->key,
                                  .role = CERTIFICATE_ROUTER,
                                  .ctx = p,
                                  .changed = on_keys_changed};
    TRY(guard_create(&guard, &p->guard, e));
    links.guard = p->guard;
    TRY(links_create(&links, &p->links, e));
    struct front_options front = {
        .loop = &p->loop,
        .http = or_default(s->http, c->listen.http),
        .admin = or_default(s->admin, c->listen.admin),
        .metrics = or_default(s->metrics, c->listen.metrics),
        .config = c,
        .guard = p->guard,
        .body_bytes_max = (uint32_t)c->limits.body_bytes,
        .header_bytes_max = (uint32_t)c->limits.header_bytes,
        .connections_max = c->limits.connections,
        .stream_bytes_max = c->limits.stream_bytes,
        .timers = c->timers,
        .drain = leave,
        .ctx = p,
        .more_metrics = link_metrics,
    };
    TRY(front_create(&front, &p->front, e));
    struct router_core_options options;
    core_options(p, s, &options);
    struct sink sink = links_sink(p->links);
    struct session_output sessions = front_sessions(p->front);
    p->core = router_core_create(&options, &sink, &sessions, clock_ms());
    front_run(p->front, p->core);
    return links_run(p->links, p->core, e);
}

static void start_loop(struct program *p) {
    uv_prepare_init(&p->loop, &p->turn);
    uv_timer_init(&p->loop, &p->timer);
    uv_signal_init(&p->loop, &p->term);
    uv_signal_init(&p->loop, &p->interrupt);
    uv_signal_init(&p->loop, &p->hangup);
    p->turn.data = p->term.data = p->interrupt.data = p->hangup.data = p;
    uv_prepare_start(&p->turn, on_turn);
    uv_timer_start(&p->timer, on_timer, 1, 0);
    uv_signal_start(&p->term, on_signal, SIGTERM);
    uv_signal_start(&p->interrupt, on_signal, SIGINT);
    uv_signal_start(&p->hangup, on_hangup, SIGHUP);
}

static void close_all(struct program *p) {
    front_destroy(&p->front);
    if (p->core) router_core_destroy(p->core);
    links_destroy(&p->links);
    uv_close((uv_handle_t *)&p->turn, NULL);
    uv_close((uv_handle_t *)&p->timer, NULL);
    uv_close((uv_handle_t *)&p->term, NULL);
    uv_close((uv_handle_t *)&p->interrupt, NULL);
    uv_close((uv_handle_t *)&p->hangup, NULL);
    guard_destroy(&p->guard);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    uv_loop_close(&p->loop);
}

// --- the command line

static enum flags_next read_flags(struct settings *s, int argc, char **argv) {
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    const struct flag flags[] = {
        {"config", FLAG_STRING, &s->config, "FILE", "the cluster's configuration file", NULL, 0, 0, false},
        {"name", FLAG_STRING, &s->name, "NAME", "name of this router, unique in the cluster", NULL, 0, 0, false},
        {"region", FLAG_STRING, &s->region, "NAME", "region that this router is in", NULL, 0, 0, false},
        {"http", FLAG_STRING, &s->http, "ADDRESS", "where to listen for HTTP (instead of listen.http)", NULL, 0, 0, false},
        {"zmq", FLAG_STRING, &s->zmq, "ADDRESS", "where to listen for workers, clients and peers (instead of listen.zmq)",
         NULL, 0, 0, false},
        {"admin", FLAG_STRING, &s->admin, "ADDRESS", "admin socket (instead of listen.admin)", NULL, 0, 0, false},
        {"metrics", FLAG_STRING, &s->metrics, "ADDRESS", "a listener for /metrics alone (instead of listen.metrics)", NULL,
         0, 0, false},
        {"peer", FLAG_LIST, &s->peers, "ADDRESS", "a router of another region to dial", NULL, 0, 0, false},
        {"key", FLAG_STRING, &s->key, "NAME",
         "this router's certificate, in security.keys, when security.curve is required; or a path with a '/'", NULL, 0, 0,
         false},
        {"check-config", FLAG_BOOL, &s->check_config, NULL, "check the configuration and exit", NULL, 0, 0, false},
        {"print-config", FLAG_BOOL, &s->print_config, NULL, "print the configuration in force and exit", NULL, 0, 0, false},
        {"config-reference", FLAG_BOOL, &s->config_reference, NULL,
         "print the reference of all configuration keys (Markdown) and exit", NULL, 0, 0, false},
        {"log-level", FLAG_STRING, &s->log_level, "LEVEL", "the least that is logged (instead of log.level)", levels, 0, 0,
         false},
    };
    const struct flag_spec spec = {
        .program = "shoal-router",
        .summary = "Takes requests over HTTP (OpenAI's API) and ZeroMQ and spreads them over workers and peer routers.",
        .examples = "  shoal-router --http 127.0.0.1:8080 --zmq tcp://127.0.0.1:7700\n"
                    "  shoal-router --config cluster.yaml --name north-1 --region north --peer tcp://127.0.0.1:7701\n"
                    "  shoal-router --config cluster.yaml --check-config\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

int main(int argc, char **argv) {
    static struct program p;
    struct settings s = {.name = "router", .region = "local", .key = "router"};
    struct error e = {0};
    enum flags_next next = read_flags(&s, argc, argv);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    if (s.config_reference) {
        struct buf text = {0};
        config_reference(&text);
        fputs(text.data, stdout);
        buf_free(&text);
        return 0;
    }
    int asked = process_config(&p.config, s.config, s.check_config, s.print_config);
    if (asked >= 0) return asked;
    process_start("shoal-router", s.name, s.log_level, &p.config);
    CHECK(uv_loop_init(&p.loop) == 0);
    start_loop(&p);
    if (open_all(&p, &s, &e) != ERR_NONE) {
        fprintf(stderr, "shoal-router: %s\n", error_text(&e));
        return 2;
    }
    log_info("router_ready", "name=%s region=%s http=%s zmq=%s pid=%d version=%s", s.name, s.region, front_address(p.front),
             links_endpoint(p.links), (int)getpid(), shoal_version());
    if (p.config.n_regions > 0 && config_find_region(&p.config, s.region) == NULL)
        log_warn("region_unknown", "region=%s effect=%s", s.region, "it is not in the configuration: its weight is 0");
    uv_run(&p.loop, UV_RUN_DEFAULT);
    log_info("router_stopped", "name=%s", s.name);
    close_all(&p);
    return 0;
}
