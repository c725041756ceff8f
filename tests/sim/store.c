#include "tests/sim/store.h"

#include "common/base/check.h"
#include "common/base/mark.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

enum { DELAY_MIN_US = 200, DELAY_MAX_US = 20000 };

struct checkpoint {
    char handle[NAME_SIZE];
    char fingerprint[FINGERPRINT_SIZE];
    uint32_t store, n;
    uint32_t *tokens; // owned, [n]
    uint64_t *chain;  // owned, [n]
    uint64_t tokens_hash, chain_hash;
    us_t until;
};

struct store_set {
    struct checkpoint *items; // owned
    uint32_t count, capacity;
    uint64_t handles;
};

struct store_set *store_set_create(void) {
    return xcalloc(1, sizeof(struct store_set));
}

static void drop(struct store_set *s, uint32_t i) {
    free(s->items[i].tokens);
    free(s->items[i].chain);
    s->items[i] = s->items[--s->count];
}

void store_set_destroy(struct store_set *s) {
    if (s == NULL) return;
    while (s->count) drop(s, 0);
    free(s->items);
    free(s);
}

us_t store_delay(struct world *w) {
    bool slow = w->phase == PHASE_SAFETY && rng_chance(&w->fault_rng, w->p.store_slow);
    us_t most = slow ? (us_t)(w->p.store_slow_max_s * 1e6) : DELAY_MAX_US;
    return DELAY_MIN_US + rng_below(&w->fault_rng, (uint32_t)most);
}

static void make_faults(struct world *w, struct checkpoint *c) {
    struct rng *g = &w->fault_rng;
    if (w->phase != PHASE_SAFETY) return;
    if (rng_chance(g, w->p.store_torn)) {
        MARK(store_torn);
        uint32_t from = rng_below(g, c->n);
        memset(c->chain + from, 0, (c->n - from) * sizeof *c->chain);
    }
    if (rng_chance(g, w->p.store_flip)) {
        MARK(store_flipped);
        uint32_t at = rng_below(g, c->n);
        if (rng_chance(g, 0.8))
            c->chain[at] ^= UINT64_C(1) << rng_below(g, 64);
        else
            c->tokens[at] ^= 1u << rng_below(g, 30);
    }
    w->stats.store_faults++;
}

static void *copy(const void *from, size_t bytes) { return memcpy(xmalloc(bytes + 1), from, bytes); }

bool store_write(struct world *w, uint32_t store, const struct store_content *content, us_t lease_us,
                 char handle[NAME_SIZE]) {
    struct store_set *s = w->stores;
    struct rng *g = &w->fault_rng;
    for (uint32_t i = s->count; i-- > 0;) {
        if (s->items[i].until <= w->now) drop(s, i);
    }
    snprintf(handle, NAME_SIZE, "%032llx", (unsigned long long)hash_mix(++s->handles));
    bool faulty = w->phase == PHASE_SAFETY;
    if (faulty && rng_chance(g, w->p.store_full)) {
        MARK(store_full);
        return false;
    }
    if (faulty && rng_chance(g, w->p.store_lost)) {
        MARK(store_lost_rename);
        return true;
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? s->capacity * 2 : 16;
        s->items = xrealloc(s->items, s->capacity * sizeof *s->items);
    }
    struct checkpoint *c = &s->items[s->count++];
    *c = (struct checkpoint){.store = store, .n = content->n, .until = w->now + lease_us + rng_below(g, (uint32_t)lease_us)};
    memcpy(c->handle, handle, NAME_SIZE);
    snprintf(c->fingerprint, sizeof c->fingerprint, "%s", content->fingerprint);
    c->tokens = copy(content->tokens, c->n * sizeof *c->tokens);
    c->chain = copy(content->chain, c->n * sizeof *c->chain);
    c->tokens_hash = hash_bytes(c->tokens, c->n * sizeof *c->tokens, 11);
    c->chain_hash = hash_bytes(c->chain, c->n * sizeof *c->chain, 12);
    make_faults(w, c);
    return true;
}

static struct checkpoint *find(struct world *w, const char *handle) {
    for (uint32_t i = 0; i < w->stores->count; i++) {
        struct checkpoint *c = &w->stores->items[i];
        if (strcmp(c->handle, handle) == 0) return c->until > w->now ? c : NULL;
    }
    return NULL;
}

void store_delete(struct world *w, const char *handle) {
    struct checkpoint *c = find(w, handle);
    if (c) drop(w->stores, (uint32_t)(c - w->stores->items));
}

uint32_t store_look(struct world *w, uint32_t store, const char *handle, const struct store_content *wanted) {
    const struct checkpoint *c = find(w, handle);
    if (c == NULL || c->store != store || strcmp(c->fingerprint, wanted->fingerprint) != 0) return 0;
    if (hash_bytes(c->tokens, c->n * sizeof *c->tokens, 11) != c->tokens_hash) return 0;
    uint32_t n = 0;
    while (n < c->n && n < wanted->n && c->tokens[n] == wanted->tokens[n]) n++;
    return n;
}

const uint64_t *store_read(struct world *w, const char *handle, uint32_t n) {
    const struct checkpoint *c = find(w, handle);
    if (c == NULL || n > c->n) return NULL;
    return hash_bytes(c->chain, c->n * sizeof *c->chain, 12) == c->chain_hash ? c->chain : NULL;
}
