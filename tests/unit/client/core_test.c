// The client's core against routers that serve with the real sending half (stream_tx), over links that lose, double and
// break, with routers that fall silent and restart: on a virtual clock, from seeds, thousands of faults a second. Whatever
// happens, each call must end with exactly its records. Messages travel as frames, so the codec takes part.
#include "client/core.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "proto/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROUTERS = 3, STREAMS = 16, CALLS = 6, FAULTS_UNTIL = 20000, END = 80000, FLIGHT_MS = 5 };

struct frame { // on its way
    struct frame *next;
    ms_t at;
    bool to_client;
    int router;
    uint32_t connection;
    struct buf bytes;
};

struct served {
    bool used;
    struct stream_key key;
    struct stream_tx tx;
    struct record_log *log;
    uint32_t total;
    ms_t next_record_at;
};

struct router {
    incarnation_t incarnation;
    bool connected;
    uint32_t connection; // number of the present or last one
    ms_t reconnect_at, silent_until, status_at;
    struct served streams[STREAMS];
};

struct world {
    uint64_t random;
    ms_t now;
    struct client_core core;
    struct router routers[ROUTERS];
    struct call calls[CALLS];
    uint32_t totals[CALLS];
    int in_flight_from; // router whose sink is in use; -1: the client's
    struct frame *first, **last;
    uint32_t loss, faults; // per 1000 messages; per 1000 ms
    uint32_t ended, seen_faults;
};

static uint32_t below(struct world *w, uint32_t n) {
    w->random += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash_mix(w->random) >> 32) % n;
}

static bool faulty(const struct world *w) { return w->now < FAULTS_UNTIL; }

// ---- the network

static void put(struct world *w, bool to_client, int router, const struct msg *m) {
    struct router *r = &w->routers[router];
    if (!r->connected) return;
    uint32_t copies = 1;
    if (faulty(w) && m->kind != MSG_HELLO && below(w, 1000) < w->loss) copies = below(w, 2) ? 0 : 2, w->seen_faults++;
    while (copies-- > 0) {
        struct frame *f = xcalloc(1, sizeof *f);
        *f = (struct frame){.at = w->now + FLIGHT_MS, .to_client = to_client, .router = router, .connection = r->connection};
        CHECK(codec_encode(m, &f->bytes));
        *w->last = f;
        w->last = &f->next;
    }
}

static void client_says(void *ctx, link_id link, const struct msg *m) { put(ctx, false, (int)link - 1, m); }

static void router_says(void *ctx, link_id link, const struct msg *m) {
    struct world *w = ctx;
    int router = (int)link - 1;
    if (w->now >= w->routers[router].silent_until) put(w, true, router, m);
}

static struct sink router_sink(struct world *w) { return (struct sink){.ctx = w, .send = router_says}; }

static void break_link(struct world *w, int i) {
    struct router *r = &w->routers[i];
    if (!r->connected) return;
    r->connected = false;
    r->reconnect_at = w->now + 20 + below(w, 600);
    for (int k = 0; k < STREAMS; k++)
        if (r->streams[k].used) stream_tx_detach(&r->streams[k].tx);
    core_link_closed(&w->core, i, w->now);
}

// ---- a router

static void forget(struct served *s) {
    record_log_destroy(s->log);
    *s = (struct served){0};
}

static struct served *find(struct router *r, const struct stream_key *key) {
    for (int k = 0; k < STREAMS; k++)
        if (r->streams[k].used && stream_key_equal(&r->streams[k].key, key)) return &r->streams[k];
    return NULL;
}

static uint32_t token_of(const struct stream_key *key, uint32_t i) { return key->request.bytes[0] * 10000u + i; }

static struct served *begin(struct router *r, const struct msg_generate *g, link_id link) {
    struct served *s = NULL;
    for (int k = 0; k < STREAMS && !s; k++)
        if (!r->streams[k].used) s = &r->streams[k];
    CHECK(s != NULL);
    *s = (struct served){.used = true, .key = g->key, .log = record_log_create(), .total = g->max_tokens};
    for (uint32_t i = 0; i < g->records.count; i++) {
        struct record record = records_get(&g->records, i);
        CHECK(record.token == token_of(&g->key, i)); // the client brings back what it was given
        record_log_append(s->log, &record);
    }
    struct attempt attempt = {g->attempt.takeover, 1, r->incarnation};
    stream_tx_init(&s->tx, &g->key, &attempt, link, g->records.count);
    return s;
}

static void say_accepted(struct world *w, int i, const struct served *s) {
    struct msg m = {.kind = MSG_ACCEPTED, .accepted = {.key = s->key, .attempt = s->tx.attempt, .replica = "w"}};
    router_says(w, (link_id)i + 1, &m);
}

static void on_generate(struct world *w, int i, const struct msg_generate *g) {
    struct router *r = &w->routers[i];
    struct served *s = find(r, &g->key);
    if (s && g->attempt.takeover > s->tx.attempt.takeover) { // it was elsewhere meanwhile
        forget(s);
        s = NULL;
    }
    if (s)
        stream_tx_attach(&s->tx, (link_id)i + 1, &s->tx.attempt, g->records.count);
    else
        s = begin(r, g, (link_id)i + 1);
    say_accepted(w, i, s);
}

static void on_sync(struct world *w, int i, const struct sync_entry *e) {
    struct served *s = find(&w->routers[i], &e->key);
    struct msg unknown = {.kind = MSG_UNKNOWN, .unknown = {.key = e->key, .attempt = e->attempt}};
    if (s == NULL) {
        router_says(w, (link_id)i + 1, &unknown);
        return;
    }
    stream_tx_attach(&s->tx, (link_id)i + 1, &s->tx.attempt, e->next);
    say_accepted(w, i, s);
}

static void router_hears(struct world *w, int i, const struct msg *m) {
    struct router *r = &w->routers[i];
    struct sink sink = router_sink(w);
    struct served *s;
    if (w->now < r->silent_until) return;
    switch (m->kind) {
    case MSG_HELLO: {
        struct msg hello = {.kind = MSG_HELLO};
        hello.hello = (struct msg_hello){.protocol_min = 1, .protocol_max = 1, .role = ROLE_ROUTER, .name = "r"};
        hello.hello.incarnation = r->incarnation;
        router_says(w, (link_id)i + 1, &hello);
        break;
    }
    case MSG_GENERATE:
        on_generate(w, i, &m->generate);
        break;
    case MSG_SYNC:
        on_sync(w, i, &m->sync.entries[0]);
        break;
    case MSG_ACK:
        if (!(s = find(r, &m->ack.key))) break;
        stream_tx_on_ack(&s->tx, &m->ack, w->now);
        if (s->tx.done_acked) forget(s);
        break;
    case MSG_RESEND:
        if ((s = find(r, &m->resend.key))) stream_tx_on_resend(&s->tx, &m->resend, s->log, &sink, w->now);
        break;
    case MSG_CANCEL:
        if ((s = find(r, &m->cancel.key))) forget(s);
        break;
    default:
        break;
    }
}

static void router_ticks(struct world *w, int i) {
    struct router *r = &w->routers[i];
    struct sink sink = router_sink(w);
    if (w->now >= r->status_at && r->connected) {
        r->status_at = w->now + 200;
        router_says(w, (link_id)i + 1, &(struct msg){.kind = MSG_STATUS});
    }
    for (int k = 0; k < STREAMS; k++) {
        struct served *s = &r->streams[k];
        if (!s->used) continue;
        uint32_t have = record_log_count(s->log);
        if (have < s->total && w->now >= s->next_record_at) {
            struct record record = {.token = token_of(&s->key, have), .text = "x", .text_len = 1};
            record_log_append(s->log, &record);
            s->next_record_at = w->now + below(w, 40);
        }
        if (record_log_count(s->log) == s->total && !s->tx.finished) {
            struct msg_done done = {.n_tokens = s->total, .finish = FINISH_LENGTH, .tail = ""};
            stream_tx_finish(&s->tx, &done);
        }
        stream_tx_pump(&s->tx, s->log, &sink, w->now);
        stream_tx_tick(&s->tx, s->log, &sink, w->now);
    }
}

static void restart(struct world *w, int i) {
    for (int k = 0; k < STREAMS; k++)
        if (w->routers[i].streams[k].used) forget(&w->routers[i].streams[k]);
    w->routers[i].incarnation += 1000;
    break_link(w, i);
}

// ---- the world's turns

static void deliver(struct world *w) {
    struct codec_arena arena = {0};
    while (w->first && w->first->at <= w->now) {
        struct frame *f = w->first;
        w->first = f->next;
        if (w->first == NULL) w->last = &w->first;
        struct router *r = &w->routers[f->router];
        struct msg m;
        codec_arena_reset(&arena);
        if (r->connected && r->connection == f->connection) { // a broken connection loses what was under way
            CHECK(codec_decode((uint8_t *)f->bytes.data, f->bytes.len, &arena, &m, NULL) == ERR_NONE);
            if (f->to_client)
                core_message(&w->core, f->router, &m, w->now);
            else
                router_hears(w, f->router, &m);
        }
        buf_free(&f->bytes);
        free(f);
    }
    codec_arena_free(&arena);
}

static void make_faults(struct world *w) {
    if (!faulty(w) || below(w, 1000) >= w->faults) return;
    int i = (int)below(w, ROUTERS);
    w->seen_faults++;
    switch (below(w, 4)) {
    case 0:
        restart(w, i);
        break;
    case 1:
        w->routers[i].silent_until = w->now + (i == 0 ? 2 * END : below(w, 3000)); // the first one: for ever
        break;
    default:
        break_link(w, i);
    }
}

static void turn(struct world *w) {
    make_faults(w);
    for (int i = 0; i < ROUTERS; i++) {
        struct router *r = &w->routers[i];
        if (!r->connected && w->now >= r->reconnect_at) {
            r->connected = true;
            r->connection++;
            core_link_opened(&w->core, i, w->now);
        }
        router_ticks(w, i);
    }
    deliver(w);
    core_tick(&w->core, w->now);
    for (int i = 0; i < ROUTERS; i++) {
        if (!w->core.routers[i].dead) continue;
        w->core.routers[i].dead = false;
        break_link(w, i);
    }
}

static void on_changed(void *ctx, struct call *c) {
    struct world *w = ctx;
    if (c->state == CALL_ENDED) w->ended++;
}

static void on_cluster(void *ctx, int router, const struct msg_cluster *m) { (void)ctx, (void)router, (void)m; }

static void start_call(struct world *w, int i) {
    struct msg_generate g = {.key = {.request = {.bytes = {(uint8_t)(i + 1)}}}, .has_seed = true, .keep = true};
    w->totals[i] = g.max_tokens = 1 + below(w, 400);
    call_init(&w->calls[i], &g, MS_NEVER);
    core_begin(&w->core, &w->calls[i], w->now);
}

static void check_call(const struct world *w, int i, uint64_t seed) {
    const struct call *c = &w->calls[i];
    if (c->state != CALL_ENDED || !c->complete)
        fail_msg("seed %llu, call %d: state %d with %u of %u records (%s)", (unsigned long long)seed, i, c->state,
                 record_log_count(c->log), w->totals[i], c->failure.text);
    assert_int_equal(record_log_count(c->log), w->totals[i]);
    for (uint32_t k = 0; k < w->totals[i]; k++)
        assert_int_equal(record_log_get(c->log, k).token, token_of(&c->request.key, k));
}

static void fini_world(struct world *w) {
    for (int i = 0; i < CALLS; i++) call_fini(&w->calls[i]);
    for (int i = 0; i < ROUTERS; i++)
        for (int k = 0; k < STREAMS; k++)
            if (w->routers[i].streams[k].used) forget(&w->routers[i].streams[k]);
    while (w->first) {
        struct frame *f = w->first;
        w->first = f->next;
        buf_free(&f->bytes);
        free(f);
    }
    free(w);
}

static uint32_t run_seed(uint64_t seed) {
    struct world *w = xcalloc(1, sizeof *w);
    w->random = seed;
    w->last = &w->first;
    w->loss = below(w, 3) ? below(w, 150) : 0; // each seed has its own mix
    w->faults = below(w, 3) ? below(w, 6) : 0;
    w->core.options = (struct core_options){
        .incarnation = 1, .name = "c", .n_routers = ROUTERS, .routers_text = "", .connect_ms = END, .silence_ms = 1500};
    w->core.sink = (struct sink){.ctx = w, .send = client_says};
    w->core.ctx = w, w->core.changed = on_changed, w->core.cluster = on_cluster;
    for (int i = 0; i < ROUTERS; i++) w->routers[i].incarnation = 10 + (incarnation_t)i;
    int started = 0;
    for (w->now = 1000; w->now < END && w->ended < CALLS; w->now += 5) {
        if (started < CALLS && below(w, 100) < 2) start_call(w, started++);
        turn(w);
    }
    assert_int_equal(started, CALLS);
    for (int i = 0; i < CALLS; i++) check_call(w, i, seed);
    for (int i = 0; i < ROUTERS; i++) assert_int_equal(w->core.routers[i].calls, 0); // nothing is left over
    assert_true(w->core.n_calls == 0 && w->core.calls == NULL);
    uint32_t faults = w->seen_faults;
    fini_world(w);
    return faults;
}

static void every_call_ends_with_its_records_whatever_happens(void **state) {
    (void)state;
    uint32_t faults = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) faults += run_seed(seed);
    print_message("%u faults\n", faults);
    assert_true(faults > 2000); // else nothing was proved
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_ends_with_its_records_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
