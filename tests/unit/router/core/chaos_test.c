// Losses under load, and any message at any time. Prints its seed; every run of a seed is the same.
#include "common/base/hash.h"
#include "tests/unit/router/core/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const names[] = {"w0", "w1", "w2", "w3", "w4", "w5"};

static void start(struct world *w, uint32_t n, uint32_t slots) {
    struct router_core_options o;
    world_options(&o);
    world_init(w, &o);
    w->latency_ms = 6;
    w->check = true;
    for (uint32_t i = 0; i < n; i++) {
        world_server(w, &(struct server_options){names[i], "here", ROLE_WORKER, slots, 20000, 10, NULL, NULL});
    }
    world_run(w, 200);
}

// The worker that serves this request and has computed its prompt, or NULL.
static struct server *struck(struct world *w, const struct request *poison) {
    for (uint32_t i = 0; i < w->n_servers; i++) {
        struct server *s = &w->servers[i];
        for (uint32_t k = 0; s->alive && k < s->n_jobs; k++) {
            const struct job *j = &s->jobs[k];
            if (j->used && j->running && j->prompt_left <= 0 && stream_key_equal(&j->key, &poison->key)) return s;
        }
    }
    return NULL;
}

static void run_with_poison(uint32_t workers, uint32_t slots, uint32_t others) {
    struct world w;
    start(&w, workers, slots);
    struct request *poison = NULL;
    for (uint32_t i = 0; i < others; i++) {
        if (i == others / 2) poison = world_submit(&w, "m", 30, 30, 100, 0);
        world_submit(&w, "m", 30, 30, 100, 0);
    }
    uint32_t kills = 0;
    ms_t back_at[6] = {0};
    for (uint32_t t = 0; t < 20000 && w.n_ended < w.n_requests; t++) {
        world_run(&w, 1);
        struct server *s = struck(&w, poison);
        if (s) kills++, back_at[s - w.servers] = w.now + 300, world_kill(&w, s);
        for (uint32_t i = 0; i < workers; i++) {
            if (!w.servers[i].alive && w.now >= back_at[i]) world_revive(&w, &w.servers[i]);
        }
    }
    world_finish(&w, 10000);
    assert_int_equal(kills, 2);
    assert_true(poison->failed);
    assert_int_equal(poison->error, ERR_POISON_REQUEST);
    assert_int_equal(w.n_failed, 1);
    assert_int_equal(w.n_done, others);
    world_fini(&w);
}

static void a_request_that_crashes_its_worker_is_refused_after_two_and_all_others_finish(void **state) {
    run_with_poison(3, 8, 40);
    run_with_poison(2, 16, 60);
    run_with_poison(1, 4, 12);
    run_with_poison(6, 2, 100);
}

static void streams_survive_killed_and_frozen_workers_without_a_lost_or_doubled_token(uint64_t seed) {
    struct world w;
    start(&w, 5, 4);
    w.random = seed;
    uint64_t dice = seed;
    for (uint32_t t = 0; t < 12000; t++) {
        uint64_t r = hash_mix(++dice);
        if (r % 40 == 0) world_submit(&w, "m", 1 + (uint32_t)(r >> 8) % 60, 64, (uint32_t)(r >> 20) % 400, 0);
        struct server *s = &w.servers[(r >> 16) % 5];
        if (r % 701 == 1 && s->alive && !s->frozen)
            world_kill(&w, s);
        else if (r % 701 == 2 && s->alive)
            s->frozen = true;
        else if (r % 83 == 3 && !s->alive)
            world_revive(&w, s);
        else if (r % 83 == 3 && s->frozen)
            world_kill(&w, s), world_revive(&w, s);
        link_id dead;
        while (router_core_next_dead_link(w.core, &dead)) {
        }
        world_run(&w, 1);
    }
    for (uint32_t i = 0; i < 5; i++) {
        if (w.servers[i].frozen) world_kill(&w, &w.servers[i]);
        if (!w.servers[i].alive) world_revive(&w, &w.servers[i]);
    }
    world_finish(&w, 60000);
    struct router_counters c;
    router_core_counters(w.core, &c);
    uint32_t poisoned = 0;
    for (uint32_t i = 0; i < w.n_requests; i++) poisoned += w.requests[i].error == ERR_POISON_REQUEST;
    print_message("seed %llu: %u requests, %u done, %llu deaths, %llu placed again, %u refused as killers\n",
                  (unsigned long long)seed, w.n_requests, w.n_done, (unsigned long long)c.deaths,
                  (unsigned long long)c.replacements, poisoned);
    assert_int_equal(w.n_done + poisoned, w.n_requests);
    assert_true(c.deaths >= 5 && c.replacements >= 5);
    assert_true(poisoned <= w.n_requests / 50);
    world_fini(&w);
}

static void killed_and_frozen_workers_lose_and_double_nothing(void **state) {
    for (uint64_t seed = 1; seed <= 4; seed++) {
        streams_survive_killed_and_frozen_workers_without_a_lost_or_doubled_token(seed * 1000003);
    }
}

static void the_second_worker_decodes_exactly_the_missing_tokens(void **state) {
    for (uint32_t k = 0; k < 20; k++) {
        struct world w;
        start(&w, 2, 4);
        w.latency_ms = 0;
        struct request *r = world_submit(&w, "m", 60, 60, 100, 0);
        struct server *first = NULL, *second;
        for (uint32_t t = 0; r->seen < 1 + 58 * k / 19; t++) {
            world_run(&w, 1);
            assert_true(t < 2000);
        }
        first = w.servers[0].decoded ? &w.servers[0] : &w.servers[1];
        second = first == &w.servers[0] ? &w.servers[1] : &w.servers[0];
        uint32_t delivered = r->seen;
        world_kill(&w, first);
        world_finish(&w, 5000);
        assert_true(r->done);
        assert_int_equal(second->decoded, 60 - delivered);
        world_fini(&w);
    }
}

// --- any message, any time

enum { FUZZ_LINKS = 9, FUZZ_LOCALS = 16 };

struct placement {
    struct stream_key key;
    struct attempt attempt;
    link_id link;
    uint32_t records; // that the core should have
};

struct fuzz {
    struct router_core *core;
    uint64_t dice;
    struct session *locals[FUZZ_LOCALS];
    bool ended[FUZZ_LOCALS];
    uint64_t sent;
    struct placement heard[8]; // what the core has placed lately
    uint32_t n_heard;
    const struct placement *topic; // what the next message is about, or NULL: anything
};

static uint64_t roll(struct fuzz *f, uint64_t below) { return hash_mix(++f->dice) % below; }

static void on_send(void *ctx, link_id link, const struct msg *m) {
    struct fuzz *f = ctx;
    f->sent++;
    const struct msg_generate *g = &m->generate;
    if (m->kind != MSG_GENERATE) return;
    f->heard[f->n_heard++ % 8] = (struct placement){g->key, g->attempt, link, g->records.count};
}

static void on_event(void *ctx, struct session *s, void *user, enum session_event event) {
    struct fuzz *f = ctx;
    if (event == SESSION_DONE || event == SESSION_FAILED) f->ended[(uintptr_t)user] = true;
}

static struct stream_key some_key(struct fuzz *f) {
    if (f->topic) return f->topic->key;
    struct stream_key key = {.choice = roll(f, 40) == 0};
    key.request.bytes[0] = (uint8_t)roll(f, 24);
    return key;
}

static struct attempt some_attempt(struct fuzz *f) {
    if (f->topic) return f->topic->attempt;
    if (roll(f, 4)) return f->heard[roll(f, 8)].attempt;
    return (struct attempt){(uint32_t)roll(f, 2), (uint32_t)roll(f, 5), roll(f, 2) ? 1000 : 4242};
}

static void some_name(struct fuzz *f, char out[NAME_SIZE], const char *prefix) {
    snprintf(out, NAME_SIZE, "%s%u", prefix, (unsigned)roll(f, 3));
}

static struct deployment_status memory[3];
static struct record some_records[40];
static struct sync_entry entries[4];
static struct member members[3];

static void some_status(struct fuzz *f, struct msg_status *s) {
    *s = (struct msg_status){.seq = roll(f, 200), .full = roll(f, 2), .has_life = roll(f, 3) > 0};
    s->state = roll(f, 4) ? LIFECYCLE_READY : (enum lifecycle)roll(f, 7);
    s->n_deployments = (uint32_t)roll(f, 3);
    s->deployments = memory;
    for (uint32_t i = 0; i < 3; i++) {
        struct deployment_status *d = &memory[i];
        *d = (struct deployment_status){.groups = (uint32_t)roll(f, 32), .running = (uint32_t)roll(f, 6)};
        some_name(f, d->info.model, "m");
        snprintf(d->info.deployment, NAME_SIZE, "d");
        snprintf(d->info.fingerprint, FINGERPRINT_SIZE, "f%u", (unsigned)roll(f, 2));
        d->info.max_seqs = (uint32_t)roll(f, 5);
        d->queued = (uint32_t)roll(f, 3);
        d->decode_left = roll(f, 1000);
        d->queued_tokens = roll(f, 1000);
        d->replicas_ready = (uint32_t)roll(f, 3);
        d->generates_seen = roll(f, 50);
        d->prefill_rate = (float)roll(f, 3) * 1000;
        d->decode_rate = (float)roll(f, 3) * 100;
    }
}

static void some_generate(struct fuzz *f, struct msg_generate *g) {
    *g = (struct msg_generate){.key = some_key(f), .hops = roll(f, 8) ? (uint32_t)roll(f, 2) : 2, .keep = roll(f, 2)};
    if (roll(f, 2)) g->attempt = some_attempt(f);
    some_name(f, g->model, "m");
    if (roll(f, 4) == 0) snprintf(g->deployment, NAME_SIZE, "d");
    if (roll(f, 6) == 0) some_name(f, g->pin, "n");
    if (roll(f, 6) == 0) snprintf(g->fingerprint, FINGERPRINT_SIZE, "f1");
    g->deadline_ms = (uint32_t)roll(f, 3) * 700;
    g->max_tokens = (uint32_t)roll(f, 3) * 30;
    g->prompt_bytes = (uint32_t)roll(f, 3) * 300;
    g->body = (const uint8_t *)"x";
    g->body_len = roll(f, 2);
    g->records = (struct records){.array = some_records, .count = roll(f, 4) ? 0 : (uint32_t)roll(f, 9)};
}

static void some_hello(struct fuzz *f, struct msg_hello *h) {
    *h = (struct msg_hello){.protocol_min = 1, .protocol_max = roll(f, 20) > 0, .role = (enum role)roll(f, 3)};
    h->incarnation = roll(f, 40) ? 1 + roll(f, 6) : 1000;
    some_name(f, h->name, "n");
    snprintf(h->region, NAME_SIZE, "%s", roll(f, 2) ? "here" : "there");
    h->reply_wanted = roll(f, 2);
    h->n_members = (uint32_t)roll(f, 3);
    h->members = members;
    some_name(f, h->info.model, "m");
    snprintf(h->info.deployment, NAME_SIZE, "d");
    h->info.max_seqs = 2;
}

static void some_message(struct fuzz *f, struct msg *m) {
    *m = (struct msg){.kind = roll(f, 30) ? (enum msg_kind)roll(f, MSG_KIND_COUNT) : (enum msg_kind)99};
    switch (m->kind) {
    case MSG_HELLO:
        some_hello(f, &m->hello);
        break;
    case MSG_STATUS:
        some_status(f, &m->status);
        break;
    case MSG_GENERATE:
        some_generate(f, &m->generate);
        break;
    case MSG_ACCEPTED:
        m->accepted = (struct msg_accepted){some_key(f), some_attempt(f), (uint32_t)roll(f, 9), 9, "n", "f0"};
        break;
    case MSG_REJECTED:
        m->rejected = (struct msg_rejected){.key = some_key(f), .attempt = some_attempt(f), .kills = roll(f, 9) == 0};
        m->rejected.error.id = (err_id)roll(f, ERR_COUNT + 2);
        break;
    case MSG_TOKENS:
        m->tokens = (struct msg_tokens){.key = some_key(f), .attempt = some_attempt(f), .offset = (uint32_t)roll(f, 9)};
        m->tokens.records = (struct records){.array = some_records, .count = (uint32_t)roll(f, 40)};
        break;
    case MSG_ACK:
        m->ack = (struct msg_ack){some_key(f), some_attempt(f), (uint32_t)roll(f, 20), roll(f, 2)};
        break;
    case MSG_RESEND:
        m->resend = (struct msg_resend){some_key(f), some_attempt(f), (uint32_t)roll(f, 20)};
        break;
    case MSG_DONE:
        m->done = (struct msg_done){.key = some_key(f), .attempt = some_attempt(f), .n_tokens = (uint32_t)roll(f, 12)};
        m->done.tail = "tail", m->done.tail_len = (uint32_t)roll(f, 5);
        break;
    case MSG_SYNC:
        for (uint32_t i = 0; i < 4; i++)
            entries[i] = (struct sync_entry){some_key(f), some_attempt(f), (uint32_t)roll(f, 30)};
        m->sync = (struct msg_sync){(uint32_t)roll(f, 5), entries};
        break;
    case MSG_UNKNOWN:
        m->unknown = (struct msg_unknown){some_key(f), some_attempt(f)};
        break;
    case MSG_SUPERSEDED:
        m->superseded = (struct msg_superseded){some_key(f), some_attempt(f), some_attempt(f)};
        break;
    case MSG_CANCEL:
        m->cancel = (struct msg_cancel){some_key(f), some_attempt(f)};
        break;
    default:
        break;
    }
}

// What a candidate would say of a stream that was placed on it, mostly.
static void fitting_message(struct fuzz *f, struct placement *p, struct msg *m) {
    static const enum msg_kind kinds[] = {MSG_ACCEPTED, MSG_TOKENS,   MSG_TOKENS,  MSG_TOKENS,
                                          MSG_DONE,     MSG_REJECTED, MSG_UNKNOWN, MSG_SUPERSEDED};
    f->topic = p;
    do some_message(f, m);
    while (m->kind != kinds[roll(f, 8)]);
    f->topic = NULL;
    if (m->kind == MSG_TOKENS) {
        m->tokens.offset = p->records > 2 ? p->records - (uint32_t)roll(f, 3) : p->records;
        uint32_t end = m->tokens.offset + m->tokens.records.count;
        p->records = end > p->records ? end : p->records;
    }
    if (m->kind == MSG_DONE) m->done.n_tokens = p->records + (roll(f, 10) == 0);
}

static void local_step(struct fuzz *f, ms_t now) {
    uint32_t i = (uint32_t)roll(f, FUZZ_LOCALS);
    if (f->locals[i] == NULL) {
        struct msg_generate g;
        struct msg_rejected rejected;
        some_generate(f, &g);
        f->ended[i] = false;
        f->locals[i] = router_core_submit(f->core, &g, (void *)(uintptr_t)i, &rejected, now);
        if (f->locals[i] == NULL) assert_true(rejected.error.id != ERR_NONE);
    } else if (f->ended[i]) {
        router_core_release(f->core, f->locals[i], now);
        f->locals[i] = NULL;
    } else if (roll(f, 3) == 0) {
        router_core_cancel(f->core, f->locals[i], now);
        f->locals[i] = NULL;
    }
}

static void fuzz(uint64_t seed, uint32_t steps) {
    struct fuzz f = {.dice = seed << 32};
    struct router_core_options o;
    world_options(&o);
    o.sessions_max = 20, o.queue_max = 6, o.queue_tokens_max = 2000;
    o.n_regions = 2;
    o.regions[0] = (struct router_region){"here", 1, 300};
    o.regions[1] = (struct router_region){"there", 2, 0};
    struct sink sink = {&f, on_send};
    struct session_output output = {&f, on_event};
    ms_t now = 1;
    f.core = router_core_create(&o, &sink, &output, now);
    link_id links[FUZZ_LINKS] = {0}, next = 0, dead;
    for (uint32_t i = 0; i < 40; i++) some_records[i] = (struct record){.token = i, .text = "abc", .text_len = i % 4};
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t i = (uint32_t)roll(&f, FUZZ_LINKS);
        if (links[i] == 0) {
            router_core_link_opened(f.core, links[i] = ++next, i < 2, now);
        } else if (roll(&f, 200) == 0) {
            router_core_link_closed(f.core, links[i], now);
            links[i] = 0;
        } else {
            struct msg m;
            struct placement *p = &f.heard[roll(&f, 8)];
            bool fits = p->link && roll(&f, 2);
            if (fits)
                fitting_message(&f, p, &m);
            else
                some_message(&f, &m);
            router_core_message(f.core, fits ? p->link : links[i], &m, now);
        }
        router_core_check(f.core);
        if (roll(&f, 6) == 0) local_step(&f, now);
        router_core_check(f.core);
        if (roll(&f, 10) == 0) now += (ms_t)roll(&f, 60), router_core_tick(f.core, now);
        router_core_check(f.core);
        while (router_core_next_dead_link(f.core, &dead)) {
            for (uint32_t k = 0; k < FUZZ_LINKS; k++) links[k] = links[k] == dead ? 0 : links[k];
        }
    }
    for (uint32_t i = 0; i < FUZZ_LOCALS; i++) {
        if (f.locals[i]) router_core_cancel(f.core, f.locals[i], now);
    }
    for (uint32_t i = 0; i < FUZZ_LINKS; i++) router_core_link_closed(f.core, links[i], now);
    for (ms_t end = now + 40000; now < end; now += 100) router_core_tick(f.core, now);
    struct router_counters c;
    router_core_counters(f.core, &c);
    assert_int_equal(c.sessions, 0);
    assert_int_equal(c.queued_tokens + c.queued + c.held_bytes + c.links, 0);
    assert_int_equal(c.accepted, c.completed + c.failed + c.cancelled);
    print_message(
        "seed %llu: %llu messages out, %llu accepted, %llu completed, %llu failed, %llu cancelled, %llu poisoned\n",
        (unsigned long long)seed, (unsigned long long)f.sent, (unsigned long long)c.accepted,
        (unsigned long long)c.completed, (unsigned long long)c.failed, (unsigned long long)c.cancelled,
        (unsigned long long)c.poisoned);
    assert_true(c.completed > 10);
    router_core_destroy(f.core);
}

static void any_message_at_any_time_keeps_every_invariant(void **state) {
    for (uint64_t seed = 1; seed <= 12; seed++) fuzz(seed, 20000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_that_crashes_its_worker_is_refused_after_two_and_all_others_finish),
        cmocka_unit_test(the_second_worker_decodes_exactly_the_missing_tokens),
        cmocka_unit_test(killed_and_frozen_workers_lose_and_double_nothing),
        cmocka_unit_test(any_message_at_any_time_keeps_every_invariant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
