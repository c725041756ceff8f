#include "tests/unit/router/core/world.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { CAPTURED_MAX = 4096 };

struct pending {
    ms_t at;
    link_id link;
    struct msg m; // records are described by seed, offset and count
    uint64_t seed;
    uint32_t n_records;
    uint64_t status_decode_left;
};

uint32_t world_token(uint64_t seed, uint32_t index) { return (uint32_t)hash_mix(seed * 31 + index) & 0xffff; }

static uint64_t roll(struct world *w) { return hash_mix(++w->random); }

static struct server *server_behind(struct world *w, link_id link) {
    for (uint32_t i = 0; i < w->n_servers; i++) {
        if (w->servers[i].alive && w->servers[i].link == link) return &w->servers[i];
    }
    return NULL;
}

// --- messages to the core, in order per server

static void post(struct world *w, struct server *s, const struct msg *m, uint64_t seed, uint32_t n) {
    if (s->frozen) return;
    if (w->n_pending == w->pending_capacity) {
        w->pending_capacity = w->pending_capacity ? w->pending_capacity * 2 : 1024;
        w->pending = xrealloc(w->pending, w->pending_capacity * sizeof *w->pending);
    }
    ms_t at = w->now + w->latency_ms / 2 + (w->latency_ms ? (ms_t)(roll(w) % (w->latency_ms + 1)) : 0);
    for (uint32_t i = w->n_pending; i-- > 0;) {
        if (w->pending[i].link == s->link && w->pending[i].at > at) at = w->pending[i].at;
        if (w->pending[i].link == s->link) break;
    }
    w->pending[w->n_pending++] = (struct pending){.at = at, .link = s->link, .m = *m, .seed = seed, .n_records = n};
}

static void deliver(struct world *w, struct pending *p) {
    struct record records[RECORDS_PER_FRAME];
    char text[16] = "t";
    if (p->m.kind == MSG_TOKENS) {
        for (uint32_t i = 0; i < p->n_records; i++) {
            records[i] = (struct record){.token = world_token(p->seed, p->m.tokens.offset + i), .text = text, .text_len = 1};
        }
        p->m.tokens.records = (struct records){.array = records, .count = p->n_records};
    }
    router_core_message(w->core, p->link, &p->m, w->now);
    if (w->check) router_core_check(w->core);
}

static void deliver_due(struct world *w) {
    uint32_t kept = 0, n = w->n_pending;
    struct pending *taken = xmalloc((n + 1) * sizeof *taken);
    uint32_t n_taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (w->pending[i].at <= w->now)
            taken[n_taken++] = w->pending[i];
        else
            w->pending[kept++] = w->pending[i];
    }
    w->n_pending = kept;
    for (uint32_t i = 0; i < n_taken; i++) deliver(w, &taken[i]);
    free(taken);
}

// --- servers

static uint32_t active(const struct server *s, uint32_t *running) {
    uint32_t n = 0;
    *running = 0;
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        n += s->jobs[i].used && !s->jobs[i].done;
        *running += s->jobs[i].used && !s->jobs[i].done && s->jobs[i].running;
    }
    return n;
}

static struct deployment_info info_of(const struct server *s) {
    struct deployment_info info = {.max_context = 4096, .max_seqs = s->o.slots, .bytes_per_token = 4};
    snprintf(info.model, sizeof info.model, "%s", s->o.model ? s->o.model : "m");
    snprintf(info.deployment, sizeof info.deployment, "d");
    snprintf(info.fingerprint, sizeof info.fingerprint, "%s", s->o.fingerprint ? s->o.fingerprint : "f");
    return info;
}

static struct deployment_status status_memory[WORLD_SERVERS * 4096];
static uint32_t status_next;

static void say_status(struct world *w, struct server *s, bool full) {
    struct deployment_status *d = &status_memory[status_next++ % ARRAY_LEN(status_memory)];
    uint32_t running, all = active(s, &running);
    *d = (struct deployment_status){.groups = STATUS_ALL, .info = info_of(s), .running = running, .queued = all - running};
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        const struct job *j = &s->jobs[i];
        if (!j->used || j->done) continue;
        d->queued_tokens += (uint64_t)j->prompt_left;
        d->decode_left += j->total - j->records;
    }
    d->replicas_ready = d->replicas_total = 1;
    d->generates_seen = s->generates_seen;
    d->prefill_rate = (float)s->o.prefill_rate;
    d->decode_rate = 1000.0f * (float)s->o.slots / (float)s->o.step_ms;
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = ++s->status_seq, .full = full, .has_life = true}};
    m.status.state = LIFECYCLE_READY;
    m.status.n_deployments = 1;
    m.status.deployments = d;
    post(w, s, &m, 0, 0);
    s->status_at = w->now;
    s->changed = false;
}

static void say_hello(struct world *w, struct server *s) {
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = 1, .protocol_max = 1, .role = s->o.role, .incarnation = s->incarnation};
    snprintf(m.hello.name, sizeof m.hello.name, "%s", s->o.name);
    snprintf(m.hello.region, sizeof m.hello.region, "%s", s->o.region);
    if (s->o.role == ROLE_WORKER) m.hello.info = info_of(s);
    post(w, s, &m, 0, 0);
}

static void connect_server(struct world *w, struct server *s) {
    s->alive = true;
    s->frozen = false;
    s->link = ++w->next_link;
    s->incarnation = ++w->next_incarnation;
    s->status_seq = s->generates_seen = 0;
    s->n_jobs = 0;
    router_core_link_opened(w->core, s->link, s->o.role == ROLE_ROUTER, w->now);
    say_hello(w, s);
    say_status(w, s, true);
}

struct server *world_server(struct world *w, const struct server_options *o) {
    assert_true(w->n_servers < WORLD_SERVERS);
    struct server *s = &w->servers[w->n_servers++];
    *s = (struct server){.o = *o, .jobs = xcalloc(WORLD_JOBS, sizeof(struct job))};
    connect_server(w, s);
    return s;
}

static void drop_pending(struct world *w, link_id link) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_pending; i++) {
        if (w->pending[i].link != link) w->pending[kept++] = w->pending[i];
    }
    w->n_pending = kept;
}

void world_kill(struct world *w, struct server *s) {
    s->alive = false;
    drop_pending(w, s->link);
    router_core_link_closed(w->core, s->link, w->now);
    if (w->check) router_core_check(w->core);
}

void world_revive(struct world *w, struct server *s) { connect_server(w, s); }

static struct job *job_of(struct server *s, const struct stream_key *key) {
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        if (s->jobs[i].used && stream_key_equal(&s->jobs[i].key, key)) return &s->jobs[i];
    }
    return NULL;
}

static struct job *job_room(struct server *s) {
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        if (!s->jobs[i].used) return &s->jobs[i];
    }
    assert_true(s->n_jobs < WORLD_JOBS);
    return &s->jobs[s->n_jobs++];
}

static struct request *request_of(struct world *w, const struct stream_key *key) {
    uint32_t i;
    memcpy(&i, key->request.bytes, sizeof i);
    return i < w->n_requests ? &w->requests[i] : NULL;
}

static void say_accepted(struct world *w, struct server *s, const struct job *j, const struct msg_generate *g) {
    struct msg m = {.kind = MSG_ACCEPTED, .accepted = {.key = j->key, .attempt = j->attempt}};
    m.accepted.prompt_tokens = g->prompt_bytes / 4 + 1;
    m.accepted.max_tokens = g->max_tokens;
    snprintf(m.accepted.replica, sizeof m.accepted.replica, "%s", s->o.name);
    snprintf(m.accepted.fingerprint, sizeof m.accepted.fingerprint, "%s", s->o.fingerprint ? s->o.fingerprint : "f");
    post(w, s, &m, 0, 0);
}

static void on_generate(struct world *w, struct server *s, const struct msg_generate *g) {
    s->generates_seen++;
    s->last_generate = *g;
    struct job *j = job_of(s, &g->key);
    if (j && attempt_equal(&j->attempt, &g->attempt)) {
        say_accepted(w, s, j, g);
        return;
    }
    if (j == NULL) j = job_room(s);
    struct request *r = request_of(w, &g->key);
    assert_non_null(r);
    *j = (struct job){.used = true, .key = g->key, .attempt = g->attempt, .seed = g->seed, .order = s->jobs_made++};
    j->given = j->records = g->records.count;
    j->total = r->total;
    j->prompt_left = g->prompt_bytes / 4 + 1 + g->records.count;
    for (uint32_t i = 0; i < g->records.count; i++) {
        assert_int_equal(records_get(&g->records, i).token, world_token(g->seed, i));
    }
    say_accepted(w, s, j, g);
    uint32_t running, all = active(s, &running);
    if (all > s->outstanding_max) s->outstanding_max = all;
    s->changed = true;
}

static void on_sent(struct world *w, struct server *s, const struct msg *m) {
    struct job *j;
    switch (m->kind) {
    case MSG_GENERATE:
        on_generate(w, s, &m->generate);
        break;
    case MSG_CANCEL:
        j = job_of(s, &m->cancel.key);
        if (j && attempt_equal(&j->attempt, &m->cancel.attempt)) j->used = false, s->changed = true;
        break;
    case MSG_ACK:
        j = job_of(s, &m->ack.key);
        if (j && m->ack.done) j->used = false;
        break;
    case MSG_HELLO:
        if (m->hello.reply_wanted) say_hello(w, s);
        break;
    default:
        break;
    }
}

static void capture(struct world *w, link_id link, const struct msg *m) {
    if (w->n_captured == CAPTURED_MAX) w->n_captured = 0;
    struct captured *c = &w->captured[w->n_captured++];
    *c = (struct captured){.link = link, .m = *m};
    if (m->kind == MSG_GENERATE) c->n_records = m->generate.records.count;
    if (m->kind == MSG_TOKENS) {
        c->n_records = m->tokens.records.count;
        if (c->n_records) c->first_token = records_get(&m->tokens.records, 0).token;
    }
    if (m->kind == MSG_SYNC && m->sync.n_entries) c->first_entry = m->sync.entries[0];
    if (m->kind == MSG_STATUS && m->status.n_deployments) c->prefill_rate = m->status.deployments[0].prefill_rate;
}

static void on_send(void *ctx, link_id link, const struct msg *m) {
    struct world *w = ctx;
    struct server *s = server_behind(w, link);
    if (s)
        on_sent(w, s, m);
    else
        capture(w, link, m);
}

// --- steps of a server

static void start_jobs(struct server *s) {
    uint32_t running;
    active(s, &running);
    while (running < s->o.slots) {
        struct job *first = NULL;
        for (uint32_t i = 0; i < s->n_jobs; i++) {
            struct job *j = &s->jobs[i];
            if (j->used && !j->done && !j->running && (first == NULL || j->order < first->order)) first = j;
        }
        if (first == NULL) return;
        first->running = true;
        running++;
    }
}

static void prefill(struct world *w, struct server *s) {
    double budget = s->o.prefill_rate / 1000;
    for (;;) {
        struct job *first = NULL;
        for (uint32_t i = 0; i < s->n_jobs; i++) {
            struct job *j = &s->jobs[i];
            if (j->used && j->running && j->prompt_left > 0 && (first == NULL || j->order < first->order)) first = j;
        }
        if (first == NULL || budget <= 0) return;
        double take = first->prompt_left < budget ? first->prompt_left : budget;
        first->prompt_left -= take;
        budget -= take;
        if (first->prompt_left <= 0) first->next_token_at = w->now + s->o.step_ms;
    }
}

static void make_token(struct world *w, struct server *s, struct job *j) {
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = j->key, .attempt = j->attempt, .offset = j->records}};
    if (j->records < j->total) {
        post(w, s, &m, j->seed, 1);
        j->records++;
        s->decoded++;
    }
    j->next_token_at += s->o.step_ms;
    if (j->records < j->total) return;
    struct msg done = {.kind = MSG_DONE, .done = {.key = j->key, .attempt = j->attempt, .n_tokens = j->total}};
    done.done.finish = FINISH_LENGTH;
    post(w, s, &done, 0, 0);
    j->done = true;
    s->served++;
    s->finished_at = w->now;
    s->changed = true;
}

static void step_server(struct world *w, struct server *s) {
    start_jobs(s);
    prefill(w, s);
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        struct job *j = &s->jobs[i];
        if (j->used && j->running && !j->done && j->prompt_left <= 0 && j->next_token_at <= w->now) make_token(w, s, j);
    }
    if (w->now - s->status_at >= 100 || (s->changed && w->now - s->status_at >= 20))
        say_status(w, s, s->status_seq % 10 == 0);
}

// --- the front

static void check_records(struct request *r, const struct session_view *v) {
    for (uint32_t n = record_log_count(v->log); r->seen < n; r->seen++) {
        assert_int_equal(record_log_get(v->log, r->seen).token, world_token(v->seed, r->seen));
    }
}

static void on_event(void *ctx, struct session *s, void *user, enum session_event event) {
    struct world *w = ctx;
    struct request *r = &w->requests[(uintptr_t)user];
    struct session_view v = session_view(s);
    assert_true(r->session == NULL || r->session == s);
    assert_false(r->done || r->failed);
    r->session = s;
    check_records(r, &v);
    if (event == SESSION_ACCEPTED) r->accepted = true;
    if (event == SESSION_DONE) {
        assert_int_equal(record_log_count(v.log), r->total);
        assert_int_equal(v.done->n_tokens, r->total);
        r->done = true;
        r->late = w->now > r->deadline_at;
        w->n_done++;
    }
    if (event == SESSION_FAILED) r->failed = true, r->error = v.rejected->error.id, w->n_failed++;
    if (r->done || r->failed) r->ended_at = w->now, w->n_ended++;
}

static struct request *submit(struct world *w, const char *model, uint32_t total, uint32_t max_tokens, uint32_t prompt_bytes,
                              uint32_t deadline_ms, const char *pin) {
    assert_true(w->n_requests < WORLD_REQUESTS);
    uint32_t index = w->n_requests++;
    struct request *r = &w->requests[index];
    *r = (struct request){
        .total = total, .submitted_at = w->now, .deadline_at = deadline_ms ? w->now + deadline_ms : MS_NEVER};
    struct msg_generate g = {.max_tokens = max_tokens, .prompt_bytes = prompt_bytes, .deadline_ms = deadline_ms};
    memcpy(g.key.request.bytes, &index, sizeof index);
    snprintf(g.model, sizeof g.model, "%s", model);
    if (pin) snprintf(g.pin, sizeof g.pin, "%s", pin);
    g.body = (const uint8_t *)"body";
    g.body_len = 4;
    r->key = g.key;
    struct msg_rejected rejected;
    r->session = router_core_submit(w->core, &g, (void *)(uintptr_t)index, &rejected, w->now);
    if (r->session == NULL) {
        r->refused = true;
        r->error = rejected.error.id;
        r->retry_after_ms = rejected.retry_after_ms;
        r->ended_at = w->now;
        w->n_refused++;
        w->n_ended++;
    }
    if (w->check) router_core_check(w->core);
    return r;
}

struct request *world_submit(struct world *w, const char *model, uint32_t total, uint32_t max_tokens, uint32_t prompt_bytes,
                             uint32_t deadline_ms) {
    return submit(w, model, total, max_tokens, prompt_bytes, deadline_ms, NULL);
}

struct request *world_submit_pinned(struct world *w, const char *model, uint32_t total, const char *pin) {
    return submit(w, model, total, total, 40, 0, pin);
}

static void release_ended(struct world *w) {
    for (uint32_t i = 0; i < w->n_requests; i++) {
        struct request *r = &w->requests[i];
        if (r->session == NULL || !(r->done || r->failed)) continue;
        router_core_release(w->core, r->session, w->now);
        r->session = NULL;
    }
}

void world_run(struct world *w, ms_t ms) {
    for (ms_t end = w->now + ms; w->now < end;) {
        w->now++;
        deliver_due(w);
        for (uint32_t i = 0; i < w->n_servers; i++) {
            if (w->servers[i].alive && !w->servers[i].frozen) step_server(w, &w->servers[i]);
        }
        if (w->now >= w->tick_at) w->tick_at = router_core_tick(w->core, w->now);
        if (w->now % 64 == 0) release_ended(w);
        if (w->check) router_core_check(w->core);
    }
}

void world_finish(struct world *w, ms_t limit_ms) {
    ms_t end = w->now + limit_ms;
    while (w->n_ended < w->n_requests && w->now < end) world_run(w, 10);
    assert_int_equal(w->n_ended, w->n_requests);
    release_ended(w);
}

// --- life

void world_options(struct router_core_options *o) {
    *o = (struct router_core_options){.incarnation = 1000, .sessions_max = 100000, .queue_max = 100000, .seed = 7};
    snprintf(o->self.name, sizeof o->self.name, "r1");
    snprintf(o->self.region, sizeof o->self.region, "here");
    o->timers = (struct link_timers){100, 300, 1000};
    o->queue_tokens_max = 100000000;
}

void world_init(struct world *w, const struct router_core_options *o) {
    *w = (struct world){.options = *o, .now = 1000, .next_incarnation = 5000, .random = 99};
    w->requests = xcalloc(WORLD_REQUESTS, sizeof *w->requests);
    w->captured = xcalloc(CAPTURED_MAX, sizeof *w->captured);
    struct sink sink = {w, on_send};
    struct session_output output = {w, on_event};
    w->core = router_core_create(o, &sink, &output, w->now);
}

void world_fini(struct world *w) {
    release_ended(w);
    router_core_check(w->core);
    struct router_counters c;
    router_core_counters(w->core, &c);
    assert_int_equal(c.sessions, 0);
    assert_int_equal(c.queued, 0);
    assert_int_equal(c.queued_tokens, 0);
    assert_int_equal(c.held_bytes, 0);
    assert_int_equal(c.accepted, c.completed + c.failed + c.cancelled);
    assert_true(router_core_idle(w->core));
    router_core_destroy(w->core);
    for (uint32_t i = 0; i < w->n_servers; i++) free(w->servers[i].jobs);
    free(w->requests);
    free(w->captured);
    free(w->pending);
}
