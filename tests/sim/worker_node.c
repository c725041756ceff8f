#include "tests/sim/worker_node.h"

#include "common/base/check.h"
#include "tests/sim/chain.h"
#include "tests/sim/engine.h"
#include "tests/sim/faults.h"
#include "tests/sim/worker_moves.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

enum { DRAIN_SLACK_US = 10000000, FAILED_LINGER_US = 100000 };

// --- the core's hooks

struct pending { // a prompt being tokenised elsewhere
    struct worker_node *n;
    uint32_t life;
    uint64_t ticket;
    const struct request *request; // NULL: the body was not intact
    struct instance *instance;
    enum text_verdict verdict;
};

static void instance_forget(struct worker_node *n, const struct instance *i) {
    for (uint32_t k = 0; k < n->instances.count; k++) {
        if (n->instances.items[k] != i) continue;
        n->instances.items[k] = n->instances.items[--n->instances.count];
        return;
    }
    world_fail(n->node.world, "%s releases a stream that it does not hold", n->node.name);
}

static void prepared(struct world *w, void *ctx, uint64_t arg) {
    struct pending *p = ctx;
    struct worker_node *n = p->n;
    if (n->node.alive && n->node.lives == p->life) {
        if (node_puts_off_owned(&n->node, prepared, ctx, arg)) return;
        struct prepared out = {.user = p->instance, .verdict = p->verdict};
        uint32_t *tokens = NULL;
        if (p->request == NULL) {
            error_set(&out.error, ERR_INVALID_ARGUMENT, "the body is not intact");
        } else if (w->p.shell_checks && p->request->prompt_tokens >= params_context(&w->p)) {
            error_set(&out.error, ERR_CONTEXT_LENGTH, "the prompt has %u tokens", p->request->prompt_tokens);
        } else {
            tokens = xmalloc(p->request->prompt_tokens * sizeof *tokens);
            for (uint32_t i = 0; i < p->request->prompt_tokens; i++) tokens[i] = request_prompt_token(p->request, i);
            out.tokens = tokens;
            out.n_tokens = p->request->prompt_tokens;
            out.max_tokens = p->request->tokens_max;
            out.n_restored = worker_moves_look(n, p->instance);
        }
        worker_core_prepared(n->core, p->ticket, &out, node_ms(&n->node));
        free(tokens);
        node_wake(&n->node);
    }
    free(p);
}

static enum text_verdict verdict(const struct world *w, uint32_t token) {
    if (!chain_stops(token, w->p.stop_one_in)) return TEXT_GO_ON;
    return chain_calls_tool(token) ? TEXT_STOP_TOOL_CALLS : TEXT_STOP;
}

static void hook_prepare(void *ctx, uint64_t ticket, const struct msg_generate *g) {
    struct worker_node *n = ctx;
    struct world *w = n->node.world;
    struct pending *p = xcalloc(1, sizeof *p);
    uint32_t number;
    *p = (struct pending){.n = n, .life = n->node.lives, .ticket = ticket};
    if (request_body_number(g->body, g->body_len, &number) && number < w->n_requests) {
        p->request = w->requests[number];
        p->instance = oracle_instance(w->oracle, p->request, g, n->node.name, n->fingerprint,
                                      w->p.salted ? hash_mix(n->node.incarnation) : 0);
        struct instance_list *l = &n->instances;
        if (l->count == l->capacity) {
            l->capacity = l->capacity ? l->capacity * 2 : 16;
            l->items = xrealloc(l->items, l->capacity * sizeof(struct instance *));
        }
        l->items[l->count++] = p->instance;
        if (w->p.n_stores && strcmp(g->store, n->store_name) == 0) instance_set_handle(p->instance, g->restore);
        if (!stream_key_equal(&g->key, &p->request->key))
            world_fail(w, "request %u came to %s under another key", number, n->node.name);
        if (g->records.count > 0) {
            uint32_t last = records_get(&g->records, g->records.count - 1).token;
            p->verdict = verdict(w, last);
        }
    } else {
        world_fail(w, "%s got a body that is not the one that was sent", n->node.name);
    }
    world_at_owned(w, w->now + rng_below(&w->shell_rng, (uint32_t)w->p.prepare_max_us), prepared, p, 0);
}

static void hook_slot_open(void *ctx, uint32_t slot, void *user, const uint32_t *tokens, uint32_t n, uint32_t n_prompt) {
    engine_slot_open(((struct worker_node *)ctx)->engine, slot, user, tokens, n, n_prompt);
}
static void hook_slot_close(void *ctx, uint32_t slot) { engine_slot_close(((struct worker_node *)ctx)->engine, slot); }

struct running {
    struct worker_node *n;
    uint32_t life, epoch;
    struct engine_step step;
};

static void step_done(struct world *w, void *ctx, uint64_t arg) {
    struct running *r = ctx;
    struct worker_node *n = r->n;
    if (n->node.alive && n->node.lives == r->life && n->epoch == r->epoch) {
        if (node_puts_off_owned(&n->node, step_done, ctx, arg)) return;
        world_hash(w, (uint64_t)w->now << 16 ^ n->node.index);
        if (r->step.deadly && w->p.poison > 0) {
            trace_note(&w->trace, w->now, NULL, "%s computed a poisonous request", n->node.name);
            w->stats.kills++;
            if (w->p.group_s > 0 && rng_chance(&w->fault_rng, 0.5))
                worker_moves_lose_member(n);
            else
                fault_kill(w, &n->node);
        } else if (!n->failed) {
            n->watch.steps++;
            n->watch.prefilled += r->step.prefilled;
            engine_answered(n->engine, r->step.step);
            worker_core_step_done(n->core, r->step.step, r->step.tokens, r->step.n_tokens, (uint32_t)r->step.took_us,
                                  node_ms(&n->node));
            node_wake(&n->node);
        }
    }
    free(r);
}

// Computed at once, in order; the outcome is known when the engine would have come to its end.
static void hook_submit(void *ctx, uint64_t step, const void *plan, size_t len) {
    struct worker_node *n = ctx;
    struct world *w = n->node.world;
    struct running *r = xmalloc(sizeof *r);
    *r = (struct running){.n = n, .life = n->node.lives, .epoch = n->epoch};
    engine_run(n->engine, step, plan, len, &r->step);
    us_t start = n->engine_free_at > w->now ? n->engine_free_at : w->now;
    n->engine_free_at = start + r->step.took_us;
    trace_note(&w->trace, w->now, NULL, "%s: step %llu begins, ends at %.6f", n->node.name, (unsigned long long)step,
               (double)n->engine_free_at / 1e6);
    world_at_owned(w, n->engine_free_at, step_done, r, 0);
}

static enum text_verdict hook_record(void *ctx, void *user, uint32_t index, const struct worker_token *token,
                                     struct record *out) {
    struct worker_node *n = ctx;
    struct world *w = n->node.world;
    oracle_recorded(w->oracle, user, index, token->token, out);
    return verdict(w, token->token);
}

static void hook_tail(void *ctx, void *user, uint8_t *channel, const char **text, uint32_t *len) {
    *channel = CHANNEL_CONTENT;
    *len = instance_tail(user, text);
}

static void hook_release(void *ctx, void *user) {
    struct worker_node *n = ctx;
    if (user == NULL) return;
    instance_forget(n, user);
    oracle_released(n->node.world->oracle, user);
}

// --- the node

static void draw_names(struct worker_node *n, struct worker_core_options *o) {
    const struct params *p = &n->node.world->p;
    memcpy(o->name, n->node.name, NAME_SIZE);
    snprintf(o->region, NAME_SIZE, "%s", region_name(n->node.region));
    snprintf(o->zone, NAME_SIZE, "zone-%u", n->node.number % 2);
    o->n_members = 1;
    memcpy(o->members[0].name, n->node.name, NAME_SIZE);
    o->members[0].pid = n->node.lives;
    model_name(n->model, o->info.model);
    o->info.n_aliases = 1;
    model_alias(n->model, o->info.aliases[0]);
    snprintf(o->info.deployment, NAME_SIZE, "deployment-%u", n->deployment);
    o->info.max_context = p->max_context;
    o->info.max_seqs = p->max_seqs;
    o->info.bytes_per_token = 4;
}

static void loading(struct world *w, void *ctx, uint64_t life) {
    struct worker_node *n = ctx;
    if (!n->node.alive || n->node.lives != life || n->failed || node_puts_off(&n->node, loading, ctx, life)) return;
    us_t whole = n->loaded_at - n->loading_since, left = n->loaded_at - w->now;
    if (left > 0) {
        float progress = (float)(whole - left) / (float)whole;
        worker_core_loading(n->core, progress, (uint32_t)(left / 1000), node_ms(&n->node));
        us_t pause = whole / 5 + 1000;
        world_at(w, w->now + (left < pause ? left : pause), loading, n, life);
    } else {
        float slots = (float)w->p.max_seqs;
        worker_core_ready_to_serve(n->core, n->fingerprint, (float)w->p.prefill_rate, slots * 1e6f / (float)w->p.step_us,
                                   node_ms(&n->node));
    }
    node_wake(&n->node);
}

static struct engine *make_engine(struct worker_node *n) {
    const struct params *p = &n->node.world->p;
    bool slow = p->one_slow && n->node.number + 1 == n->node.world->n_workers;
    struct engine_options e = {.world = n->node.world,
                               .name = n->node.name,
                               .fingerprint = n->fingerprint,
                               .slots = p->max_seqs + p->spare_slots,
                               .n_blocks = p->n_blocks,
                               .block_tokens = p->block_tokens,
                               .step_tokens = p->step_tokens,
                               .max_seqs = p->max_seqs,
                               .chunk_tokens = p->chunk_tokens,
                               .micro_batches = p->micro_batches,
                               .plans_max = p->plans_in_flight,
                               .prefix_cache = p->prefix_cache,
                               .context = p->max_context,
                               .prefill_rate = p->prefill_rate / (slow ? 4 : 1),
                               .step_us = p->step_us * (slow ? 4 : 1)};
    return engine_create(&e);
}

static void start(struct node *node) {
    struct worker_node *n = (struct worker_node *)node;
    struct world *w = node->world;
    const struct params *p = &w->p;
    struct worker_core_options *o = xcalloc(1, sizeof *o);
    draw_names(n, o);
    o->incarnation = node->incarnation;
    o->timers = p->timers;
    o->status_full_ms = p->status_full_ms;
    o->max_seqs = p->max_seqs;
    o->spare_slots = p->spare_slots;
    o->block_tokens = p->block_tokens;
    o->n_blocks = p->n_blocks;
    o->step_tokens = p->step_tokens;
    o->chunk_tokens = p->chunk_tokens;
    o->plans_in_flight = p->plans_in_flight;
    o->micro_batches = p->micro_batches;
    o->max_context = p->max_context;
    o->prefix_cache = p->prefix_cache;
    o->prefix_salt = rng_u64(&w->shell_rng);
    o->queue_max = p->worker_queue_max;
    o->orphan_tokens = p->orphan_tokens;
    o->grace_ms = p->grace_ms;
    o->lease_ms = p->lease_ms;
    if (p->n_stores) memcpy(o->info.store, n->store_name, NAME_SIZE);
    o->buggify = node_buggify(node, p->worker_odd);
    static const enum worker_bug bugs[SIM_BUG_COUNT] = {
        [SIM_BUG_RESEND] = WORKER_BUG_RESEND_IGNORED,  [SIM_BUG_DOUBLE_FREE] = WORKER_BUG_DOUBLE_FREE,
        [SIM_BUG_SPLICE] = WORKER_BUG_SPLICE,          [SIM_BUG_UNTOLD] = WORKER_BUG_BLOCKS_UNTOLD,
        [SIM_BUG_RESTORE] = WORKER_BUG_RESTORE_FAILED, [SIM_BUG_EPOCH] = WORKER_BUG_OLD_EPOCH,
    };
    o->bug = bugs[w->options->bug];
    struct worker_hooks hooks = {
        n, hook_prepare, hook_slot_open, hook_slot_close, hook_submit, hook_record, hook_tail, hook_release, NULL, NULL};
    struct sink sink = node_sink(node);
    if (p->n_stores) hooks.checkpoint = worker_moves_checkpoint, hooks.restore = worker_moves_restore;
    n->engine = make_engine(n);
    worker_watch_begin(n);
    n->core = worker_core_create(o, &sink, &hooks, node_ms(node));
    free(o);
    n->engine_free_at = 0;
    n->drain_until = 0;
    n->failed = false;
    n->epoch = 0;
    n->loading_since = w->now;
    n->loaded_at = w->now + (us_t)(rng_unit(&w->shell_rng) * (double)p->load_max_us);
    world_at(w, w->now, loading, n, node->lives);
}

static void stop(struct node *node) {
    struct worker_node *n = (struct worker_node *)node;
    for (uint32_t i = 0; i < n->instances.count; i++) oracle_died(node->world->oracle, n->instances.items[i]);
    struct worker_counters c;
    worker_core_counters(n->core, &c);
    node->world->stats.protocol_errors += c.protocol_errors;
    node->world->stats.moves += c.moved;
    worker_core_destroy(n->core);
    engine_destroy(n->engine);
    n->core = NULL;
    n->engine = NULL;
    for (uint32_t i = 0; i < n->instances.count; i++)
        oracle_released(node->world->oracle, n->instances.items[i]); // being prepared
    n->instances.count = 0;
}

static void opened(struct node *node, link_id link, bool dialled) {
    worker_watch_opened((struct worker_node *)node, link);
    worker_core_link_opened(((struct worker_node *)node)->core, link, node_ms(node));
}
static void link_closed(struct node *node, link_id link) {
    worker_watch_closed((struct worker_node *)node, link);
    worker_core_link_closed(((struct worker_node *)node)->core, link, node_ms(node));
}
static void message(struct node *node, link_id link, const struct msg *m) {
    worker_core_message(((struct worker_node *)node)->core, link, m, node_ms(node));
}

static ms_t tick(struct node *node) {
    struct worker_node *n = (struct worker_node *)node;
    struct world *w = node->world;
    ms_t next = worker_core_tick(n->core, node_ms(node));
    if (n->drain_until == 0 && worker_core_life(n->core) == LIFECYCLE_NOTICED) // by a router's word
        n->drain_until = w->now + (us_t)w->p.drain_max_ms * 1000;
    if (n->drain_until == 0) return next;
    bool late = w->now > n->drain_until + DRAIN_SLACK_US;
    if (!worker_core_idle(n->core) && !late) return next;
    if (late && w->p.faults == FAULT_KILL)
        world_fail(w, "%s was to drain within %u ms and is not idle", node->name, w->p.drain_max_ms);
    w->stats.drains++;
    world_disaster(w);
    fault_restart_later(w, node);
    node_kill(node);
    return next;
}

static bool next_dead_link(struct node *node, link_id *link) {
    struct worker_node *n = (struct worker_node *)node;
    bool dead = worker_core_next_dead_link(n->core, link);
    if (dead) worker_watch_closed(n, *link);
    return dead;
}
static void check(struct node *node) { worker_core_check(((struct worker_node *)node)->core); }

static const struct node_ops worker_ops = {start, stop, opened, link_closed, message, tick, next_dead_link, check};

struct worker_node *worker_node_create(struct world *w, uint32_t number, uint32_t region) {
    struct worker_node *n = xcalloc(1, sizeof *n);
    node_init(&n->node, w, &worker_ops, NODE_WORKER, number, region);
    uint32_t kinds = w->p.n_models * w->p.n_deployments,
             place = number / (w->options->regions ? w->options->regions : 1) % kinds;
    n->model = place % w->p.n_models;
    n->deployment = place / w->p.n_models;
    if (w->p.n_stores) snprintf(n->store_name, NAME_SIZE, "store-%u", n->store = number % w->p.n_stores);
    fingerprint_text(n->model, n->deployment, n->fingerprint);
    return n;
}

void worker_node_destroy(struct worker_node *n) {
    free(n->instances.items);
    worker_watch_fini(&n->watch);
    node_fini(&n->node);
    free(n);
}

void worker_node_drain(struct worker_node *n) {
    struct world *w = n->node.world;
    if (n->failed) return;
    trace_note(&w->trace, w->now, NULL, "%s is drained", n->node.name);
    uint32_t deadline_ms = w->p.drain_max_ms;
    if (n->drain_until)
        deadline_ms = 1 + rng_below(&w->fault_rng, deadline_ms);
    else
        n->drain_until = w->now + (us_t)deadline_ms * 1000;
    worker_core_notice(n->core, deadline_ms, node_ms(&n->node));
    node_wake(&n->node);
}

static void end_failed(struct world *w, void *ctx, uint64_t life) {
    struct worker_node *n = ctx;
    if (n->node.alive && n->node.lives == life) fault_kill(w, &n->node);
}

void worker_node_fail(struct worker_node *n) {
    struct world *w = n->node.world;
    if (n->failed) return;
    trace_note(&w->trace, w->now, NULL, "%s: its engine fails", n->node.name);
    n->failed = true;
    worker_core_failed(n->core, node_ms(&n->node));
    node_wake(&n->node);
    world_at(w, w->now + rng_below(&w->fault_rng, FAILED_LINGER_US), end_failed, n, n->node.lives);
}
