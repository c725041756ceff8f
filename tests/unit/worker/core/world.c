#include "tests/unit/worker/core/world.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { WORKER_INCARNATION = 77 };

struct user { // what the shell would keep of a stream
    struct world *w;
    uint32_t stream, next;
    char restore[NAME_SIZE];
    char text[16];
};

struct world_options world_defaults(void) {
    return (struct world_options){.seed = 1,
                                  .max_seqs = 4,
                                  .block_tokens = 4,
                                  .n_blocks = 256,
                                  .step_tokens = 32,
                                  .chunk_tokens = 16,
                                  .plans_in_flight = 2,
                                  .max_context = 512,
                                  .queue_max = 64,
                                  .orphan_tokens = 16,
                                  .grace_ms = 1000};
}

uint32_t world_random(struct world *w, uint32_t below) {
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(hash_mix(w->random) % below);
}

// ---- hooks: the shell ----

static void prepare(void *ctx, uint64_t ticket, const struct msg_generate *g) {
    struct world *w = ctx;
    struct preparation p = {.ticket = ticket, .n_given = g->records.count};
    assert_true(g->body_len >= sizeof p.stream);
    memcpy(&p.stream, g->body, sizeof p.stream);
    memcpy(p.restore, g->restore, sizeof p.restore);
    if (p.n_given > 0) p.last_token = records_get(&g->records, p.n_given - 1).token;
    if (w->n_preparations == w->preparations_cap) {
        w->preparations_cap = w->preparations_cap ? 2 * w->preparations_cap : 16;
        w->preparations = xrealloc(w->preparations, w->preparations_cap * sizeof p);
    }
    w->preparations[w->n_preparations++] = p;
}

static void answer_preparation(struct world *w, const struct preparation *p) {
    struct world_stream *s = &w->streams[p->stream];
    struct user *user = xcalloc(1, sizeof *user);
    *user = (struct user){.w = w, .stream = p->stream, .next = p->n_given};
    memcpy(user->restore, p->restore, sizeof user->restore);
    w->users++;
    struct prepared found = {.tokens = s->prompt, .n_tokens = s->n_prompt, .max_tokens = s->max_tokens, .user = user};
    if (p->n_given > 0 && fake_stops(p->last_token)) found.verdict = TEXT_STOP;
    if (w->options.store) found.n_restored = fake_store_find(w->options.store, user->restore);
    worker_core_prepared(w->core, p->ticket, &found, w->now);
}

static void slot_open(void *ctx, uint32_t slot, void *user, const uint32_t *tokens, uint32_t n, uint32_t n_prompt) {
    struct world *w = ctx;
    struct user *u = user;
    if (u == NULL) { // a prefix
        fake_engine_open(w->engine, slot, tokens, n, n_prompt);
        return;
    }
    assert_int_equal(n_prompt, w->streams[u->stream].n_prompt);
    assert_int_equal(n, n_prompt + u->next);
    if (w->n_opened < sizeof w->opened / sizeof w->opened[0]) w->opened[w->n_opened++] = u->stream;
    fake_engine_open(w->engine, slot, tokens, n, n_prompt);
}
static void slot_close(void *ctx, uint32_t slot) { fake_engine_close(((struct world *)ctx)->engine, slot); }
static void submit(void *ctx, uint64_t step, const void *plan, size_t len) {
    fake_engine_submit(((struct world *)ctx)->engine, step, plan, len);
}

static enum text_verdict record(void *ctx, void *user, uint32_t index, const struct worker_token *token,
                                struct record *out) {
    struct user *u = user;
    assert_int_equal(index, u->next++);
    snprintf(u->text, sizeof u->text, "%u ", token->token);
    *out = (struct record){.token = token->token, .text = u->text, .text_len = (uint32_t)strlen(u->text)};
    out->channel = index % 2 ? CHANNEL_CONTENT : CHANNEL_REASONING;
    return fake_stops(token->token) ? TEXT_STOP : TEXT_GO_ON;
}

static void tail(void *ctx, void *user, uint8_t *channel, const char **text, uint32_t *len) {
    struct user *u = user;
    snprintf(u->text, sizeof u->text, "end of %u", u->stream);
    *channel = CHANNEL_CONTENT;
    *text = u->text;
    *len = (uint32_t)strlen(u->text);
}

static void checkpoint(void *ctx, uint64_t ticket, const struct checkpoint_request *r) {
    struct world *w = ctx;
    fake_moves_checkpoint(w->moves, ticket, r);
    if (r->user != NULL) return;
    memcpy(w->prefix, r->tokens, r->n_computed * sizeof *r->tokens);
    w->n_prefix = r->n_computed;
    w->n_prefixes++;
}

static void restore(void *ctx, uint64_t ticket, uint32_t slot, void *user, uint32_t n) {
    struct world *w = ctx;
    fake_moves_restore(w->moves, ticket, slot, user ? ((struct user *)user)->restore : w->brought, n);
}

static void release(void *ctx, void *user) {
    ((struct world *)ctx)->users--;
    free(user);
}

// ---- what the core says: the router ----

static void post(struct world *w, link_id link, const struct msg *m) {
    if (w->n_posts == w->posts_cap) {
        w->posts_cap = w->posts_cap ? 2 * w->posts_cap : 64;
        w->posts = xrealloc(w->posts, w->posts_cap * sizeof *w->posts);
    }
    w->posts[w->n_posts++] = (struct post){.link = link, .m = *m};
}

static void router_says(void *ctx, link_id link, const struct msg *m) { post(ctx, link, m); }

static struct world_stream *stream_of_key(struct world *w, const struct stream_key *key) {
    uint32_t index;
    memcpy(&index, key->request.bytes, sizeof index);
    assert_true(index < w->n_streams);
    return &w->streams[index];
}

static void take_status(struct world *w, link_id link, const struct msg_status *m) {
    struct world_status *s = &w->status[link];
    assert_true(m->seq == s->seq + 1);
    s->seq = m->seq;
    s->n++;
    s->n_full += m->full;
    s->n_empty += !m->has_life && m->n_deployments == 0;
    if (m->has_life) s->has_life = true, s->state = m->state, s->deadline_ms = m->deadline_ms;
    for (uint32_t i = 0; i < m->n_deployments; i++) {
        const struct deployment_status *d = &m->deployments[i];
        struct deployment_status old = s->load;
        s->load = *d;
        s->load.groups |= old.groups;
        if (!(d->groups & STATUS_INFO)) s->load.info = old.info;
        if (!(d->groups & STATUS_RATES)) s->load.prefill_rate = old.prefill_rate, s->load.decode_rate = old.decode_rate;
        if (!(d->groups & STATUS_COUNTERS)) s->load.decoded_total = old.decoded_total;
    }
}

static void take_done(struct world *w, struct world_stream *s, const struct msg_done *m) {
    struct sink sink = {w, router_says};
    enum rx_result result = stream_rx_on_done(&s->rx, WORKER_INCARNATION, m, s->log, &sink, w->now);
    assert_true(result != RX_INVALID);
    s->n_done += result == RX_DONE || result == RX_DUPLICATE;
    if (result != RX_DONE) return;
    s->done = true;
    s->end = *m;
    assert_true(m->tail_len < sizeof s->tail);
    if (m->tail_len) memcpy(s->tail, m->tail, m->tail_len);
    s->end.tail = s->tail;
}

static void take_offer(struct world *w, link_id link, struct world_stream *s, const struct msg_move_offer *m) {
    s->n_offers++;
    s->offer = *m;
    uint32_t have = record_log_count(s->log);
    struct msg reply = {.kind = MSG_RESEND, .resend = {s->key, s->attempt, have}};
    if (have >= m->n_tokens) {
        assert_int_equal(have, m->n_tokens); // all that was sent
        s->offered = true;
        reply = (struct msg){.kind = MSG_ACK, .ack = {s->key, s->attempt, have, false}};
    }
    post(w, link, &reply);
}

// As a router answers Tokens or Done of an attempt that it has left: Cancel, and Ack, so that the worker lets go.
static void let_go(struct world *w, link_id link, const struct msg *m) {
    struct msg reply = {.kind = MSG_CANCEL, .cancel = {m->tokens.key, m->tokens.attempt}};
    if (m->kind == MSG_DONE) {
        reply.kind = MSG_ACK;
        reply.ack = (struct msg_ack){m->done.key, m->done.attempt, m->done.n_tokens, true};
    }
    post(w, link, &reply);
}

static void take_stream_message(struct world *w, link_id link, const struct msg *m) {
    // All of these begin with key and attempt.
    struct world_stream *s = stream_of_key(w, &m->accepted.key);
    if (!attempt_equal(&m->accepted.attempt, &s->attempt) || s->rx.link != link) {
        if (m->kind == MSG_TOKENS || m->kind == MSG_DONE) let_go(w, link, m);
        return;
    }
    struct sink sink = {w, router_says};
    switch (m->kind) {
    case MSG_ACCEPTED:
        s->accepted = true;
        s->n_accepted++;
        s->accepted_max_tokens = m->accepted.max_tokens;
        break;
    case MSG_REJECTED:
        assert_false(s->done);
        s->rejected = true;
        s->n_rejected++;
        s->refusal = m->rejected;
        stream_rx_unbind(&s->rx);
        break;
    case MSG_TOKENS:
        assert_true(m->tokens.records.count > 0 && m->tokens.records.count <= RECORDS_PER_FRAME);
        if (s->n_tokens++ == 0 || m->tokens.offset < s->least_offset) s->least_offset = m->tokens.offset;
        stream_rx_on_tokens(&s->rx, WORKER_INCARNATION, &m->tokens, s->log, &sink, w->now);
        break;
    case MSG_DONE:
        take_done(w, s, &m->done);
        break;
    case MSG_MOVE_OFFER:
        take_offer(w, link, s, &m->move_offer);
        break;
    case MSG_UNKNOWN:
        s->unknown = true;
        s->n_unknown++;
        break;
    case MSG_SUPERSEDED:
        s->superseded = true;
        s->n_superseded++;
        break;
    default:
        fail_msg("the worker said %s", msg_kind_name(m->kind));
    }
}

static void worker_says(void *ctx, link_id link, const struct msg *m) {
    struct world *w = ctx;
    assert_true(link < WORLD_LINKS && w->link_up[link]);
    if (w->deaf) return;
    if (m->kind == MSG_HELLO) {
        w->n_hellos++;
        w->last_hello_wants_reply = m->hello.reply_wanted;
        assert_int_equal(m->hello.role, ROLE_WORKER);
    } else if (m->kind == MSG_STATUS) {
        take_status(w, link, &m->status);
    } else if (world_random(w, 100) >= w->options.loss_percent) {
        take_stream_message(w, link, m);
    }
}

// ---- made and unmade ----

static void create_engine(struct world *w) {
    const struct world_options *o = &w->options;
    struct fake_options f = {
        .plans_max = o->plans_in_flight, .chunk_tokens = o->chunk_tokens, .micro_batches = o->micro_batches};
    f.limits.caps =
        (struct plan_caps){.rows = o->max_seqs,
                           .tokens = o->step_tokens,
                           .deltas = plan_deltas_max(o->max_seqs, o->step_tokens, o->max_context / o->block_tokens + 1)};
    f.limits.batch_tokens = o->step_tokens;
    f.limits.slots = o->max_seqs + o->spare_slots;
    f.limits.blocks = o->n_blocks;
    f.limits.block_tokens = o->block_tokens;
    f.limits.context = o->max_context;
    f.limits.vocab = FAKE_VOCAB;
    f.counts_wrong = o->unchecked;
    w->engine = fake_engine_create(&f);
}

static void create_core(struct world *w) {
    const struct world_options *o = &w->options;
    struct worker_core_options c = {.name = "w1", .region = "here", .zone = "a", .incarnation = WORKER_INCARNATION};
    c.n_members = 1;
    c.members[0].pid = 4242;
    snprintf(c.info.model, sizeof c.info.model, "r1");
    snprintf(c.info.deployment, sizeof c.info.deployment, "blue");
    c.info.n_aliases = 1;
    snprintf(c.info.aliases[0], sizeof c.info.aliases[0], "reasoner");
    c.timers = (struct link_timers){.heartbeat_ms = 100, .suspect_ms = 300, .dead_ms = 1000};
    c.status_full_ms = 1000;
    c.max_seqs = o->max_seqs;
    c.spare_slots = o->spare_slots;
    c.block_tokens = o->block_tokens;
    c.n_blocks = o->n_blocks;
    c.step_tokens = o->step_tokens;
    c.chunk_tokens = o->chunk_tokens;
    c.plans_in_flight = o->plans_in_flight;
    c.micro_batches = o->micro_batches;
    c.max_context = o->max_context;
    c.prefix_cache = o->prefix_cache;
    c.inter_token_ms = o->inter_token_ms;
    c.prefix_salt = o->seed;
    c.queue_max = o->queue_max;
    c.orphan_tokens = o->orphan_tokens;
    c.grace_ms = o->grace_ms;
    c.kept_bytes_max = o->kept_bytes_max;
    c.bug = o->bug;
    c.lease_ms = 5000;
    if (o->store) snprintf(c.info.store, sizeof c.info.store, "5ca1ab1e");
    struct sink sink = {w, worker_says};
    struct worker_hooks hooks = {w, prepare, slot_open, slot_close, submit, record, tail, release, checkpoint, restore};
    w->core = worker_core_create(&c, &sink, &hooks, w->now);
    w->moves = fake_moves_create(w->core, w->engine, o->store);
}

struct world *world_create(const struct world_options *options) {
    struct world *w = xcalloc(1, sizeof *w);
    w->options = *options;
    w->random = options->seed;
    w->router = 5;
    w->step_us = 1000;
    w->now = 1000;
    create_engine(w);
    create_core(w);
    if (!options->starts_loading) worker_core_ready_to_serve(w->core, "f00d", 1000, 100, w->now);
    world_open_link(w);
    return w;
}

void world_discard(struct world *w) {
    worker_core_destroy(w->core);
    fake_moves_destroy(w->moves);
    fake_engine_destroy(w->engine);
    for (uint32_t i = 0; i < w->n_streams; i++) record_log_destroy(w->streams[i].log);
    free(w->posts);
    free(w->preparations);
    free(w);
}

void world_destroy(struct world *w) {
    struct worker_counters c = world_counters(w);
    assert_int_equal(c.streams, 0);
    assert_int_equal(c.running, 0);
    assert_int_equal(c.waiting, 0);
    assert_int_equal(c.preparing, 0);
    assert_int_equal(c.plans_in_flight, 0);
    assert_int_equal(c.blocks_free, c.blocks_total);
    assert_int_equal(c.slots_free, w->options.max_seqs + w->options.spare_slots);
    assert_int_equal(c.log_bytes, 0);
    assert_int_equal(w->users, 0);
    assert_int_equal(fake_engine_open_slots(w->engine), 0);
    assert_true(worker_core_idle(w->core));
    world_discard(w);
}

struct worker_counters world_counters(const struct world *w) {
    struct worker_counters c;
    worker_core_counters(w->core, &c);
    return c;
}

// ---- links ----

void world_hello(struct world *w, link_id link, incarnation_t router, uint32_t heartbeat_ms) {
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = PROTOCOL_OLDEST, .protocol_max = PROTOCOL_VERSION, .role = ROLE_ROUTER};
    m.hello.incarnation = router;
    m.hello.heartbeat_ms = heartbeat_ms;
    worker_core_message(w->core, link, &m, w->now);
}

link_id world_open_silent_link(struct world *w) {
    link_id link = ++w->links;
    assert_true(link < WORLD_LINKS);
    w->link_up[link] = true;
    worker_core_link_opened(w->core, link, w->now);
    return link;
}

link_id world_open_link(struct world *w) {
    link_id link = world_open_silent_link(w);
    world_hello(w, link, w->router, 0);
    return link;
}

void world_close_link(struct world *w, link_id link) {
    worker_core_link_closed(w->core, link, w->now);
    w->link_up[link] = false;
}

// ---- what the router asks ----

uint32_t world_stream(struct world *w, uint32_t n_prompt, uint32_t max_tokens) {
    uint32_t index = w->n_streams++;
    assert_true(index < WORLD_STREAMS && n_prompt <= WORLD_TOKENS);
    struct world_stream *s = &w->streams[index];
    memcpy(s->key.request.bytes, &index, sizeof index);
    s->attempt = (struct attempt){.counter = 1, .router = w->router};
    s->n_prompt = n_prompt;
    s->max_tokens = max_tokens;
    for (uint32_t i = 0; i < n_prompt; i++) {
        uint32_t of = i < w->options.family_prefix ? index % 3 : index; // three families
        s->prompt[i] = (uint32_t)(hash_mix(of * 1000003 + i) % FAKE_VOCAB);
    }
    if (w->options.priorities) s->tenant = index % 3;
    if (w->options.priorities) s->priority = (int32_t)(hash_mix(index) % 3) - 1;
    s->log = record_log_create();
    stream_rx_init(&s->rx, &s->key);
    return index;
}

uint32_t world_sibling(struct world *w, uint32_t of, uint32_t max_tokens) {
    uint32_t index = world_stream(w, w->streams[of].n_prompt, max_tokens);
    memcpy(w->streams[index].prompt, w->streams[of].prompt, sizeof w->streams[of].prompt);
    return index;
}

void world_ask(struct world *w, uint32_t index, link_id link) {
    struct world_stream *s = &w->streams[index];
    if (!s->asked) stream_rx_bind(&s->rx, &s->attempt, link, WORKER_INCARNATION);
    s->asked = true;
    s->rx.link = s->link = link;
    struct msg m = {.kind = MSG_GENERATE};
    m.generate = (struct msg_generate){.key = s->key, .attempt = s->attempt, .prompt_bytes = 4 * s->n_prompt};
    snprintf(m.generate.model, sizeof m.generate.model, "r1");
    m.generate.max_tokens = s->max_tokens;
    m.generate.deadline_ms = s->deadline_ms;
    m.generate.priority = s->priority;
    snprintf(m.generate.tenant, sizeof m.generate.tenant, "t%u", s->tenant);
    memcpy(m.generate.restore, s->restore, sizeof s->restore);
    uint32_t body[2] = {index, s->attempt.counter};
    m.generate.body = (const uint8_t *)body;
    m.generate.body_len = w->other_request ? sizeof body : sizeof body[0];
    m.generate.records = (struct records){.log = s->log, .count = record_log_count(s->log)};
    worker_core_message(w->core, link, &m, w->now);
}

void world_ask_next(struct world *w, uint32_t index, link_id link) {
    struct world_stream *s = &w->streams[index];
    s->attempt.counter++;
    s->asked = s->accepted = s->rejected = s->unknown = s->superseded = false;
    world_ask(w, index, link);
}

uint32_t world_generate(struct world *w, link_id link, uint32_t n_prompt, uint32_t max_tokens) {
    uint32_t index = world_stream(w, n_prompt, max_tokens);
    world_ask(w, index, link);
    return index;
}

void world_sync(struct world *w, uint32_t index, link_id link) {
    struct world_stream *s = &w->streams[index];
    s->rx.link = s->link = link;
    struct sync_entry entry = {s->key, s->attempt, record_log_count(s->log)};
    struct msg m = {.kind = MSG_SYNC, .sync = {.n_entries = 1, .entries = &entry}};
    worker_core_message(w->core, link, &m, w->now);
}

void world_commit(struct world *w, uint32_t index, link_id link) {
    struct world_stream *s = &w->streams[index];
    struct msg m = {.kind = MSG_MOVE_COMMIT, .move_commit = {s->key, s->attempt, s->attempt}};
    m.move_commit.by.counter++;
    worker_core_message(w->core, link, &m, w->now);
}

void world_cancel(struct world *w, uint32_t index, link_id link) {
    struct msg m = {.kind = MSG_CANCEL, .cancel = {w->streams[index].key, w->streams[index].attempt}};
    worker_core_message(w->core, link, &m, w->now);
}

void world_give_records(struct world *w, uint32_t index, uint32_t n) {
    uint32_t tokens[WORLD_TOKENS];
    enum finish finish;
    assert_true(n <= world_expected(w, index, tokens, &finish));
    for (uint32_t i = 0; i < n; i++) {
        struct record r = {.token = tokens[i], .text = "x", .text_len = 1};
        record_log_append(w->streams[index].log, &r);
    }
}

// ---- time ----

static void check(const struct world *w) {
    if (!w->options.unchecked) worker_core_check(w->core);
}

static void deliver(struct world *w) {
    for (uint32_t i = 0; i < w->n_posts; i++) { // more may come in meanwhile
        struct post p = w->posts[i];
        if (!w->link_up[p.link] || world_random(w, 100) < w->options.loss_percent) continue;
        worker_core_message(w->core, p.link, &p.m, w->now);
        check(w);
    }
    w->n_posts = 0;
    if (w->hold_preparations) return;
    uint32_t n = w->n_preparations;
    w->n_preparations = 0;
    for (uint32_t i = 0; i < n; i++) answer_preparation(w, &w->preparations[i]);
}

void world_step(struct world *w) {
    uint32_t tokens[256];
    struct worker_token out[256];
    uint64_t step;
    uint32_t n = fake_engine_step(w->engine, &step, tokens, &w->last_work);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (struct worker_token){.token = tokens[i], .nan = w->garble_next};
        w->garble_next = false;
    }
    uint32_t us = w->step_us + w->row_us * w->last_work.decode_rows + w->token_us * w->last_work.prefill_tokens;
    worker_core_step_done(w->core, step, out, n, us, w->now);
    check(w);
}

void world_turn(struct world *w, uint32_t ms) {
    if (!w->hold_steps && fake_engine_pending(w->engine) > 0) world_step(w);
    fake_moves_turn(w->moves, w->now);
    check(w);
    deliver(w);
    check(w);
    struct sink sink = {w, router_says};
    for (uint32_t i = 0; i < w->n_streams; i++)
        if (w->streams[i].asked) stream_rx_tick(&w->streams[i].rx, w->streams[i].log, &sink, w->now);
    struct msg beat = {.kind = MSG_STATUS};
    for (link_id link = 1; link <= w->links; link++)
        if (w->link_up[link] && w->now % 50 == 0) worker_core_message(w->core, link, &beat, w->now);
    w->now += ms;
    ms_t next = worker_core_tick(w->core, w->now);
    assert_true(next > w->now);
    check(w);
    link_id dead;
    while (worker_core_next_dead_link(w->core, &dead)) w->link_up[dead] = false;
}

void world_turns(struct world *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) world_turn(w, 1);
}

bool world_ended(const struct world *w, uint32_t stream) { return w->streams[stream].done || w->streams[stream].rejected; }

void world_settle(struct world *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        world_turn(w, 1);
        uint32_t open = 0;
        for (uint32_t k = 0; k < w->n_streams; k++) open += w->streams[k].asked && !world_ended(w, k);
        struct worker_counters c = world_counters(w);
        if (open == 0 && c.streams == 0 && c.plans_in_flight == 0 && w->n_preparations == 0) return;
    }
    struct worker_counters c = world_counters(w);
    fail_msg("seed %llu: %u streams, %u running, %u waiting, %u preparing, %u plans, %u of %u blocks free after %u turns",
             (unsigned long long)w->options.seed, c.streams, c.running, c.waiting, c.preparing, c.plans_in_flight,
             c.blocks_free, c.blocks_total, n);
}

// ---- what must come out ----

uint32_t world_expected(const struct world *w, uint32_t stream, uint32_t *tokens, enum finish *finish) {
    const struct world_stream *s = &w->streams[stream];
    uint32_t all[2 * WORLD_TOKENS], n = s->n_prompt, made = 0;
    uint32_t held = w->options.n_blocks * w->options.block_tokens;
    uint32_t context = held < w->options.max_context ? held : w->options.max_context;
    uint32_t max = s->max_tokens && s->max_tokens < context - n ? s->max_tokens : context - n;
    memcpy(all, s->prompt, n * sizeof *all);
    *finish = FINISH_LENGTH;
    while (made < max) {
        uint32_t t = fake_next(all, n);
        all[n++] = tokens[made++] = t;
        if (fake_stops(t)) {
            *finish = FINISH_STOP;
            break;
        }
    }
    return made;
}

void world_assert_prefix(struct world *w, uint32_t stream) {
    uint32_t tokens[WORLD_TOKENS];
    enum finish finish;
    uint32_t n = world_expected(w, stream, tokens, &finish);
    const struct record_log *log = w->streams[stream].log;
    assert_true(record_log_count(log) <= n);
    for (uint32_t i = 0; i < record_log_count(log); i++) assert_int_equal(record_log_get(log, i).token, tokens[i]);
}

void world_assert_whole(struct world *w, uint32_t stream) {
    uint32_t tokens[WORLD_TOKENS];
    enum finish finish;
    struct world_stream *s = &w->streams[stream];
    uint32_t n = world_expected(w, stream, tokens, &finish);
    world_assert_prefix(w, stream);
    assert_true(s->done);
    assert_int_equal(s->end.finish, finish);
    assert_int_equal(record_log_count(s->log), n);
    assert_int_equal(s->end.n_tokens, n);
    assert_int_equal(s->end.usage.prompt_tokens, s->n_prompt);
    assert_int_equal(s->end.usage.completion_tokens, n);
}
