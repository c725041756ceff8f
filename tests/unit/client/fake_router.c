#include "tests/unit/client/fake_router.h"

#include "common/base/check.h"
#include "common/net/zmq_loop.h"
#include "proto/codec.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { PER_MESSAGE = 2, PEERS = 8, STREAMS = 1024 };

struct fake_stream {
    struct stream_key key;
    struct net_identity peer;
    struct attempt attempt;
    uint32_t next;
    bool done_sent, done_acked, held; // held: waits for a Resend or a Generate
    bool faulted;
};

struct fake_router {
    struct fake_options options;
    char address[ADDRESS_SIZE];
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t stop;
    uv_timer_t pace, beat;
    struct net_router *net;
    struct net_identity peers[PEERS];
    uint32_t n_peers;
    struct fake_stream streams[STREAMS];
    uint32_t n_streams;
    bool silent;
    struct fake_seen seen;
    struct codec_arena arena;
};

static void say(struct fake_router *f, const struct net_identity *peer, const struct msg *m) {
    if (f->silent || f->options.fault == FAKE_MUTE) return;
    struct buf out = {0};
    CHECK(codec_encode(m, &out));
    net_router_send(f->net, peer, out.data, out.len);
    if (f->options.fault == FAKE_DOUBLE) net_router_send(f->net, peer, out.data, out.len);
    if (f->options.fault == FAKE_GARBAGE) net_router_send(f->net, peer, out.data, out.len / 2);
    if (f->options.fault == FAKE_GARBAGE) net_router_send(f->net, peer, "\x08\x01\xfa\x01\x00", 5);
    buf_free(&out);
}

static void say_records(struct fake_router *f, struct fake_stream *s, uint32_t from, uint32_t n,
                        const struct attempt *attempt) {
    struct record records[PER_MESSAGE];
    char text[PER_MESSAGE][16];
    for (uint32_t i = 0; i < n; i++) {
        int len = snprintf(text[i], sizeof text[i], "%u ", from + i);
        records[i] = (struct record){.token = 1000 + from + i, .text = text[i], .text_len = (uint32_t)len};
    }
    struct msg m = {.kind = MSG_TOKENS};
    m.tokens = (struct msg_tokens){.key = s->key, .attempt = *attempt, .offset = from};
    m.tokens.records = (struct records){.array = records, .count = n};
    say(f, &s->peer, &m);
}

static void say_done(struct fake_router *f, struct fake_stream *s) {
    struct msg m = {.kind = MSG_DONE};
    bool bad = f->options.fault == FAKE_ERROR, shorter = f->options.fault == FAKE_DONE_TOO_SHORT;
    m.done = (struct msg_done){
        .key = s->key, .attempt = s->attempt, .n_tokens = f->options.n_tokens, .tail = "end", .tail_len = 3};
    m.done.finish = FINISH_LENGTH;
    m.done.usage = (struct usage){.prompt_tokens = 9, .completion_tokens = f->options.n_tokens};
    strcpy(m.done.replica, "w1");
    if (bad) m.done.finish = FINISH_ERROR, m.done.n_tokens = s->next, error_set(&m.done.error, ERR_NUMERIC, "not a number");
    if (shorter) m.done.n_tokens = s->next - 1;
    say(f, &s->peer, &m);
    s->done_sent = true;
}

static void say_accepted(struct fake_router *f, struct fake_stream *s, const char *replica) {
    struct msg m = {.kind = MSG_ACCEPTED};
    m.accepted = (struct msg_accepted){.key = s->key, .attempt = s->attempt, .prompt_tokens = 9, .max_tokens = 100};
    strcpy(m.accepted.replica, replica);
    say(f, &s->peer, &m);
}

// What this fake does wrong, where it does it. False: the stream goes no further now.
static bool misbehave(struct fake_router *f, struct fake_stream *s) {
    static const struct attempt stale = {0, 1, 1};
    bool half = s->next >= f->options.n_tokens / 2;
    switch (f->options.fault) {
    case FAKE_GAP:
        if (!s->faulted && s->next >= 4) s->next += 2, s->faulted = true;
        return true;
    case FAKE_SILENT:
        return half ? (f->silent = true, false) : true;
    case FAKE_STALL:
        return s->next < 2;
    case FAKE_DONE_EARLY:
        if (s->next + PER_MESSAGE < f->options.n_tokens || s->faulted) return true;
        say_done(f, s);
        s->faulted = s->held = true;
        return false;
    case FAKE_ERROR:
        if (!half) return true;
        say_done(f, s);
        return false;
    case FAKE_FORGETS_ONCE:
        if (!half || s->faulted) return true;
        s->faulted = s->held = true;
        say(f, &s->peer, &(struct msg){.kind = MSG_UNKNOWN, .unknown = {.key = s->key, .attempt = s->attempt}});
        return false;
    case FAKE_NEW_ATTEMPT:
        if (!half || s->faulted) return true;
        s->faulted = true;
        s->attempt.counter++;
        say_accepted(f, s, "w2");
        return true;
    case FAKE_OLD_ATTEMPT:
        say_records(f, s, s->next, 1, &stale);
        return true;
    default:
        return true;
    }
}

static void step(struct fake_router *f, struct fake_stream *s) {
    if (s->held || s->done_sent || !misbehave(f, s)) return;
    uint32_t left = f->options.n_tokens - s->next, n = left < PER_MESSAGE ? left : PER_MESSAGE;
    if (n > 0) say_records(f, s, s->next, n, &s->attempt);
    s->next += n;
    if (s->next == f->options.n_tokens) say_done(f, s);
}

static bool can_go_on(const struct fake_router *f, const struct fake_stream *s) {
    return !s->held && !s->done_sent && !f->silent && !(f->options.fault == FAKE_STALL && s->next >= 2);
}

static void on_pace(uv_timer_t *timer) {
    struct fake_router *f = timer->data;
    for (uint32_t i = 0; i < f->n_streams; i++) {
        if (f->options.pace_ms > 0)
            step(f, &f->streams[i]);
        else
            while (can_go_on(f, &f->streams[i])) step(f, &f->streams[i]);
    }
}

static void on_beat(uv_timer_t *timer) {
    struct fake_router *f = timer->data;
    for (uint32_t i = 0; i < f->n_peers; i++) say(f, &f->peers[i], &(struct msg){.kind = MSG_STATUS});
}

static struct fake_stream *find(struct fake_router *f, const struct stream_key *key) {
    for (uint32_t i = 0; i < f->n_streams; i++)
        if (stream_key_equal(&f->streams[i].key, key)) return &f->streams[i];
    return NULL;
}

static void reject(struct fake_router *f, const struct net_identity *peer, const struct stream_key *key) {
    struct msg m = {.kind = MSG_REJECTED, .rejected = {.key = *key, .retry_after_ms = 700}};
    bool draining = f->options.fault == FAKE_DRAINING;
    error_set(&m.rejected.error, draining ? ERR_DRAINING : ERR_OVERLOADED, draining ? "shutting down" : "the queue is full");
    say(f, peer, &m);
}

static void on_generate(struct fake_router *f, const struct net_identity *peer, const struct msg_generate *g) {
    f->seen.last_records = g->records.count;
    f->seen.last_seed = g->seed;
    f->seen.last_deadline_ms = g->deadline_ms;
    if (g->attempt.takeover > f->seen.max_takeover) f->seen.max_takeover = g->attempt.takeover;
    if (f->options.fault == FAKE_REJECT || f->options.fault == FAKE_DRAINING) {
        reject(f, peer, &g->key);
        return;
    }
    if (f->options.fault == FAKE_DEAF && f->seen.generates == 1) return;
    struct fake_stream *s = find(f, &g->key);
    if (s == NULL) {
        CHECK(f->n_streams < STREAMS);
        s = &f->streams[f->n_streams++];
        *s = (struct fake_stream){.key = g->key, .attempt = {g->attempt.takeover, 1, f->options.incarnation}};
    }
    if (g->attempt.takeover > s->attempt.takeover) { // begun anew
        s->attempt = (struct attempt){g->attempt.takeover, 1, f->options.incarnation};
    }
    s->peer = *peer;
    s->next = g->records.count;
    s->held = false;
    for (uint32_t i = 0; i < g->records.count; i++) CHECK(records_get(&g->records, i).token == 1000 + i);
    say_accepted(f, s, "w1");
    if (f->options.pace_ms == 0) on_pace(&f->pace);
}

static void on_sync(struct fake_router *f, const struct net_identity *peer, const struct sync_entry *e) {
    struct fake_stream *s = find(f, &e->key);
    if (s == NULL || f->options.knows_nothing) {
        say(f, peer, &(struct msg){.kind = MSG_UNKNOWN, .unknown = {.key = e->key, .attempt = e->attempt}});
        return;
    }
    s->peer = *peer;
    s->next = e->next;
    s->held = s->done_sent = false;
    if (f->options.pace_ms == 0) on_pace(&f->pace);
}

static void on_resend(struct fake_router *f, const struct msg_resend *m) {
    struct fake_stream *s = find(f, &m->key);
    if (s == NULL) return;
    s->next = m->from;
    s->held = s->done_sent = false;
    if (f->options.pace_ms == 0) on_pace(&f->pace);
}

static void say_cluster(struct fake_router *f, const struct net_identity *peer) {
    struct member member = {.name = "w1", .pid = 4242};
    struct router_view routers[2] = {{.pid = 99}, {.pid = 0}};
    struct replica_view replicas[2] = {{.state = LIFECYCLE_READY, .n_members = 1, .members = &member}};
    snprintf(routers[0].name, NAME_SIZE, "%s", f->options.name);
    snprintf(routers[1].name, NAME_SIZE, "other");
    snprintf(replicas[0].name, NAME_SIZE, "%s-w1", f->options.name);
    struct deployment_status *status = &replicas[0].status;
    status->groups = STATUS_LOAD | STATUS_INFO, status->running = 3;
    strcpy(status->info.model, "tiny"), strcpy(status->info.deployment, "blue");
    replicas[1] = replicas[0];
    strcpy(replicas[1].name, "w2");
    struct msg m = {.kind = MSG_CLUSTER, .cluster = {2, routers, f->options.two_replicas ? 2 : 1, replicas}};
    say(f, peer, &m);
}

static void say_hello(struct fake_router *f, const struct net_identity *peer) {
    struct msg m = {.kind = MSG_HELLO};
    m.hello =
        (struct msg_hello){.protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .incarnation = f->options.incarnation};
    strcpy(m.hello.name, f->options.name);
    say(f, peer, &m);
}

static void remember(struct fake_router *f, const struct net_identity *peer) {
    for (uint32_t i = 0; i < f->n_peers; i++)
        if (f->peers[i].len == peer->len && memcmp(f->peers[i].bytes, peer->bytes, peer->len) == 0) return;
    f->peers[f->n_peers++ % PEERS] = *peer;
    if (f->n_peers > PEERS) f->n_peers = PEERS;
}

static void on_frame(void *ctx, const struct net_identity *peer, const void *data, size_t len) {
    struct fake_router *f = ctx;
    struct msg m;
    struct error e = {0};
    codec_arena_reset(&f->arena);
    if (codec_decode(data, len, &f->arena, &m, &e) != ERR_NONE) {
        fprintf(stderr, "the client sent what cannot be read: %s\n", e.text);
        CHECK(!"a readable message");
    }
    remember(f, peer);
    switch (m.kind) {
    case MSG_HELLO:
        f->seen.hellos++;
        say_hello(f, peer);
        break;
    case MSG_GENERATE:
        f->seen.generates++;
        on_generate(f, peer, &m.generate);
        break;
    case MSG_SYNC:
        f->seen.syncs++;
        on_sync(f, peer, &m.sync.entries[0]);
        break;
    case MSG_RESEND:
        f->seen.resends++;
        on_resend(f, &m.resend);
        break;
    case MSG_ACK:
        f->seen.acks++;
        f->seen.done_acks += m.ack.done;
        break;
    case MSG_CANCEL:
        f->seen.cancels += 1;
        break;
    case MSG_QUERY:
        f->seen.queries++;
        say_cluster(f, peer);
        break;
    default:
        break;
    }
}

static void on_stop(uv_async_t *stop) {
    struct fake_router *f = stop->data;
    net_router_destroy(&f->net);
    uv_close((uv_handle_t *)&f->stop, NULL);
    uv_close((uv_handle_t *)&f->pace, NULL);
    uv_close((uv_handle_t *)&f->beat, NULL);
}

static void *run(void *arg) {
    uv_run(&((struct fake_router *)arg)->loop, UV_RUN_DEFAULT);
    return NULL;
}

struct fake_router *fake_start(const struct fake_options *options) {
    struct fake_router *f = xcalloc(1, sizeof *f);
    struct fake_options *o = &f->options;
    *o = *options;
    if (o->n_tokens == 0) o->n_tokens = 20;
    if (o->name == NULL) o->name = "fake";
    if (o->incarnation == 0) o->incarnation = 77;
    CHECK(uv_loop_init(&f->loop) == 0 && uv_async_init(&f->loop, &f->stop, on_stop) == 0);
    CHECK(uv_timer_init(&f->loop, &f->pace) == 0 && uv_timer_init(&f->loop, &f->beat) == 0);
    f->stop.data = f->pace.data = f->beat.data = f;
    struct net_router_options n = {.loop = &f->loop, .ctx = f, .on_frame = on_frame};
    n.address = o->address ? o->address : "tcp://127.0.0.1:0";
    struct error e = {0};
    err_id id = net_router_create(&n, &f->net, &e);
    for (int i = 0; i < 200 && id != ERR_NONE; i++) { // libzmq lets go of a closed socket's port a little later
        usleep(10000);
        id = net_router_create(&n, &f->net, &e);
    }
    if (id != ERR_NONE) fprintf(stderr, "%s\n", e.text);
    CHECK(id == ERR_NONE);
    snprintf(f->address, sizeof f->address, "%s", net_router_endpoint(f->net));
    if (o->pace_ms) uv_timer_start(&f->pace, on_pace, o->pace_ms, o->pace_ms);
    uv_timer_start(&f->beat, on_beat, 50, 50);
    CHECK(pthread_create(&f->thread, NULL, run, f) == 0);
    return f;
}

const char *fake_address(const struct fake_router *f) { return f->address; }
struct fake_seen *fake_seen(struct fake_router *f) {
    return &f->seen;
}

void fake_stop(struct fake_router *f) {
    uv_async_send(&f->stop);
    pthread_join(f->thread, NULL);
    CHECK(uv_loop_close(&f->loop) == 0);
    codec_arena_free(&f->arena);
    free(f);
}
