#include "tests/sim/worker_moves.h"

#include "common/base/check.h"
#include "common/base/mark.h"
#include "tests/sim/engine.h"
#include "tests/sim/world.h"
#include "worker/core/suspend.h"

#include <stdio.h>
#include <stdlib.h>

enum { COPY_MAX_US = 5000 };

struct moving { // a sequence on its way to the store, or from it
    struct worker_node *n;
    uint32_t life, slot, count;
    uint64_t ticket;
    uint32_t *tokens; // owned
    uint64_t *chain;  // owned; NULL: not copied yet
    struct instance *instance;
};

static void moving_free(struct moving *m) {
    free(m->tokens);
    free(m->chain);
    free(m);
}

static bool lives(const struct moving *m) { return m->n->node.alive && m->n->node.lives == m->life; }

static struct moving *begin(struct worker_node *n, uint64_t ticket, uint32_t slot, uint32_t count) {
    struct moving *m = xcalloc(1, sizeof *m);
    *m = (struct moving){.n = n, .life = n->node.lives, .ticket = ticket, .slot = slot, .count = count};
    return m;
}

// --- to the store

static void written(struct world *w, void *ctx, uint64_t arg) {
    struct moving *m = ctx;
    struct worker_node *n = m->n;
    if (lives(m)) {
        if (node_puts_off_owned(&n->node, written, ctx, arg)) return;
        char handle[NAME_SIZE];
        struct store_content c = {n->fingerprint, m->tokens, m->chain, m->count};
        bool ok = m->chain && store_write(w, n->store, &c, (us_t)w->p.lease_ms * 1000, handle);
        trace_note(&w->trace, w->now, NULL, "%s: checkpoint of %u positions is %s", n->node.name, m->count,
                   ok ? handle : "not written");
        bool wanted =
            worker_core_checkpointed(n->core, m->ticket, ok ? handle : NULL, m->count * sizeof *m->chain, node_ms(&n->node));
        if (ok && !wanted) {
            RARE_MARK(checkpoint_in_vain);
            store_delete(w, handle);
        }
        node_wake(&n->node);
    }
    moving_free(m);
}

// The engine has copied it out, if the slot was still the sequence's.
static void copied(struct world *w, void *ctx, uint64_t arg) {
    struct moving *m = ctx;
    struct worker_node *n = m->n;
    if (!lives(m)) {
        moving_free(m);
        return;
    }
    if (node_puts_off_owned(&n->node, copied, ctx, arg)) return;
    if (worker_core_wants(n->core, m->ticket)) {
        m->chain = xcalloc(m->count, sizeof *m->chain);
        engine_export(n->engine, m->slot, m->chain, m->count);
    }
    world_at_owned(w, w->now + store_delay(w), written, m, 0);
}

void worker_moves_checkpoint(void *ctx, uint64_t ticket, const struct checkpoint_request *r) {
    struct worker_node *n = ctx;
    struct world *w = n->node.world;
    struct moving *m = begin(n, ticket, r->slot, r->n_computed);
    m->tokens = xcalloc(r->n_computed, sizeof *m->tokens);
    memcpy(m->tokens, r->tokens, r->n_computed * sizeof *m->tokens);
    world_at_owned(w, w->now + rng_below(&w->shell_rng, COPY_MAX_US), copied, m, 0);
}

// --- from the store

uint32_t worker_moves_look(struct worker_node *n, const struct instance *i) {
    struct store_content wanted = {.fingerprint = n->fingerprint};
    wanted.tokens = instance_tokens(i, &wanted.n);
    const char *handle = instance_handle(i);
    if (handle[0] == '\0') return 0;
    uint32_t found = store_look(n->node.world, n->store, handle, &wanted);
    if (found == 0) MARK(checkpoint_not_found);
    return found;
}

static void loaded(struct world *w, void *ctx, uint64_t arg) {
    struct moving *m = ctx;
    struct worker_node *n = m->n;
    if (lives(m)) {
        if (node_puts_off_owned(&n->node, loaded, ctx, arg)) return;
        bool wanted = worker_core_wants(n->core, m->ticket);
        n->watch.restores--;
        const uint64_t *chain = wanted ? store_read(w, instance_handle(m->instance), m->count) : NULL;
        if (chain) {
            MARK(checkpoint_loaded);
            engine_import(n->engine, m->slot, chain, m->count);
            w->stats.restores++;
            n->watch.restored_most += m->count;
        } else if (wanted) {
            MARK(checkpoint_damaged);
        }
        trace_note(&w->trace, w->now, NULL, "%s: %u positions are %s slot %u", n->node.name, m->count,
                   chain    ? "loaded into"
                   : wanted ? "damaged, for"
                            : "no longer wanted in",
                   m->slot);
        worker_core_restored(n->core, m->ticket, chain != NULL, node_ms(&n->node));
        node_wake(&n->node);
    }
    moving_free(m);
}

void worker_moves_restore(void *ctx, uint64_t ticket, uint32_t slot, void *user, uint32_t count) {
    struct worker_node *n = ctx;
    struct world *w = n->node.world;
    struct moving *m = begin(n, ticket, slot, count);
    m->instance = user;
    n->watch.restores++;
    world_at_owned(w, w->now + store_delay(w), loaded, m, 0);
}

// --- a group of several processes

static void formed_again(struct world *w, void *ctx, uint64_t arg) {
    struct worker_node *n = ctx;
    if (!n->node.alive || n->node.lives != arg >> 32 || n->epoch != (uint32_t)arg || n->failed) return;
    if (node_puts_off(&n->node, formed_again, ctx, arg)) return;
    struct member members[2] = {{.pid = n->node.lives}, {.stage = 1, .pid = n->epoch}};
    for (uint32_t i = 0; i < 2; i++) snprintf(members[i].name, NAME_SIZE, "%.60s.%u", n->node.name, i);
    worker_core_group(n->core, n->epoch, 2, members, node_ms(&n->node));
    float slots = (float)w->p.max_seqs;
    worker_core_ready_to_serve(n->core, n->fingerprint, (float)w->p.prefill_rate, slots * 1e6f / (float)w->p.step_us,
                               node_ms(&n->node));
    node_wake(&n->node);
}

void worker_moves_lose_member(struct worker_node *n) {
    struct world *w = n->node.world;
    enum lifecycle life = worker_core_life(n->core);
    if (n->failed || (life != LIFECYCLE_READY && life != LIFECYCLE_NOTICED)) return;
    MARK(member_lost);
    trace_note(&w->trace, w->now, NULL, "%s loses a member of its group", n->node.name);
    w->stats.regroups++;
    world_disaster(w);
    for (uint32_t i = 0; i < n->instances.count; i++) oracle_bereaved(w->oracle, n->instances.items[i]);
    worker_core_suspended(n->core, "a member of the group was lost", node_ms(&n->node));
    engine_regroup(n->engine, ++n->epoch);
    n->engine_free_at = w->now;
    us_t after = rng_below(&w->fault_rng, (uint32_t)(w->p.reform_max_s * 1e6));
    world_at(w, w->now + after, formed_again, n, (uint64_t)n->node.lives << 32 | n->epoch);
    node_wake(&n->node);
}
