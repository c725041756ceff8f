// The engine's half of the oracle: what each instance was given, read and computed.
#include "tests/sim/oracle_internal.h"

#include "common/base/check.h"
#include "tests/sim/chain.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

static void instance_room(struct instance *i, uint32_t n) {
    if (n <= i->capacity) return;
    i->capacity = n + n / 4 + 16;
    i->tokens = xrealloc(i->tokens, i->capacity * sizeof *i->tokens);
    i->chain = xrealloc(i->chain, (i->capacity + 1) * sizeof *i->chain);
}

static void append(struct instance *i, uint32_t token) {
    instance_room(i, i->len + 1);
    i->tokens[i->len] = token;
    i->chain[i->len + 1] = chain_next(i->chain[i->len], token);
    i->len++;
}

static void mark_write(struct instance *i) { snprintf(i->mark, sizeof i->mark, "%08x", i->serial); }

struct instance *oracle_instance(struct oracle *o, const struct request *r, const struct msg_generate *g, const char *worker,
                                 const char *fingerprint, uint64_t salt) {
    struct instance *i = xcalloc(1, sizeof *i);
    if (o->n_instances + 1 >= o->instances_capacity) {
        o->instances_capacity = o->instances_capacity ? o->instances_capacity * 2 : 1024;
        o->instances = xrealloc(o->instances, o->instances_capacity * sizeof(struct instance *));
    }
    i->serial = ++o->n_instances;
    o->instances[i->serial] = i;
    struct account *a = i->account = &o->accounts[r->number];
    i->next = a->instances;
    a->instances = i;
    i->attempt = g->attempt;
    i->worker = worker;
    i->salt = salt;
    i->seed = g->seed;
    i->start = chain_start(fingerprint, strlen(fingerprint));
    mark_write(i);
    instance_room(i, r->prompt_tokens + g->records.count + 32);
    i->chain[0] = i->start;
    for (uint32_t k = 0; k < r->prompt_tokens; k++) append(i, request_prompt_token(r, k));
    for (uint32_t k = 0; k < g->records.count; k++) {
        struct record given = records_get(&g->records, k);
        append(i, given.token);
        if (a->tokens && k < a->got && a->tokens[k] != given.token && attempt_compare(&g->attempt, &a->current) >= 0) {
            world_fail(o->world, "request %u, attempt %u: record %u was handed to %s as token %u, but the client holds %u",
                       r->number, g->attempt.counter, k, worker, given.token, a->tokens[k]);
        }
    }
    i->n_given = i->n_recorded = g->records.count;
    if (r->has_seed && (!g->has_seed || g->seed != r->seed))
        world_fail(o->world, "request %u reached %s with a seed that its client did not give", r->number, worker);
    o->world->stats.attempts++;
    if (g->attempt.counter > 1) o->world->stats.replacements++;
    return i;
}

const struct request *instance_request(const struct instance *i) { return i->account->request; }
uint64_t instance_seed(const struct instance *i) { return i->seed; }
uint64_t instance_salt(const struct instance *i) { return i->salt; }

void instance_set_handle(struct instance *i, const char *handle) { memcpy(i->handle, handle, NAME_SIZE); }
const char *instance_handle(const struct instance *i) { return i->handle; }

const uint32_t *instance_tokens(const struct instance *i, uint32_t *n) {
    *n = i->account->request->prompt_tokens + i->n_recorded;
    return i->tokens;
}

void oracle_opened(struct oracle *o, struct instance *i, const uint32_t *tokens, uint32_t n, uint32_t n_prompt) {
    const struct request *r = i->account->request;
    uint32_t expected = r->prompt_tokens + i->n_recorded;
    if (n_prompt != r->prompt_tokens || n != expected) {
        world_fail(o->world, "request %u: %s opened a slot with %u tokens, %u of them prompt; it has %u and %u", r->number,
                   i->worker, n, n_prompt, expected, r->prompt_tokens);
        return;
    }
    for (uint32_t k = 0; k < n; k++) {
        if (tokens[k] == i->tokens[k]) continue;
        world_fail(o->world, "request %u: %s opened a slot with a wrong token at %u of %u", r->number, i->worker, k, n);
        return;
    }
    i->len = n; // what was sampled beyond was never made a record, and will be sampled again
}

void oracle_sampled(struct oracle *o, struct instance *i, uint32_t position, uint64_t context, uint32_t token) {
    if (position > i->len) {
        world_fail(o->world, "request %u: %s sampled position %u, but knows only %u tokens", i->account->request->number,
                   i->worker, position, i->len);
        return;
    }
    if (context != i->chain[position]) {
        world_fail(o->world,
                   "request %u: %s's blocks do not hold its sequence: what it read at position %u of %u is not "
                   "what belongs there",
                   i->account->request->number, i->worker, position, i->len);
        return;
    }
    if (position == i->len)
        append(i, token);
    else if (i->tokens[position] != token)
        world_fail(o->world, "request %u: %s sampled position %u twice, differently", i->account->request->number, i->worker,
                   position);
}

void oracle_holds(struct oracle *o, const struct instance *i, uint32_t position, uint64_t context) {
    if (position < i->len && context != i->chain[position + 1])
        world_fail(o->world, "request %u: %s's blocks hold something else at position %u of %u than belongs there",
                   i->account->request->number, i->worker, position, i->len);
}

void oracle_recorded(struct oracle *o, struct instance *i, uint32_t index, uint32_t token, struct record *out) {
    const struct request *r = i->account->request;
    uint32_t position = r->prompt_tokens + index;
    if (index != i->n_recorded) {
        world_fail(o->world, "request %u: %s makes record %u, its next is %u", r->number, i->worker, index, i->n_recorded);
    } else if (position >= i->len || i->tokens[position] != token) {
        world_fail(o->world, "request %u: %s makes record %u of token %u, which was not sampled for it", r->number,
                   i->worker, index, token);
    } else {
        i->n_recorded++;
    }
    uint32_t n = index;
    for (int digit = MARK_LEN - 1; digit >= MARK_LEN / 2; digit--, n >>= 4) i->mark[digit] = "0123456789abcdef"[n & 15];
    *out = (struct record){.token = token, .has_logprob = true, .logprob = chain_logprob(token), .text = i->mark};
    out->text_len = MARK_LEN;
    out->channel = token & 64 ? CHANNEL_REASONING : CHANNEL_CONTENT;
    out->n_top = token % 37 == 0 ? 2 : 0;
    i->top[0] = (struct top_logprob){.token = token, .logprob = out->logprob};
    i->top[1] = (struct top_logprob){.token = token + 1, .logprob = out->logprob - 1};
    out->top = i->top;
}

void instance_tail_text(const struct request *r, uint64_t chain, char out[20]) {
    if (r->tail)
        snprintf(out, 20, "tail-%08x", (unsigned)(chain >> 32));
    else
        out[0] = '\0';
}

uint32_t instance_tail(struct instance *i, const char **text) {
    instance_tail_text(i->account->request, i->chain[i->account->request->prompt_tokens + i->n_recorded], i->tail);
    *text = i->tail;
    return (uint32_t)strlen(i->tail);
}

void account_tidy(struct oracle *o, struct account *a) {
    struct instance **at = &a->instances;
    while (*at != NULL) {
        struct instance *i = *at;
        if (!i->over) {
            at = &i->next;
            continue;
        }
        *at = i->next;
        o->instances[i->serial] = NULL;
        free(i->tokens);
        free(i->chain);
        free(i);
    }
}

void oracle_released(struct oracle *o, struct instance *i) {
    CHECK(!i->over);
    i->over = true;
    if (i->account->outcome != OUTCOME_NONE) account_tidy(o, i->account);
}

void oracle_bereaved(struct oracle *o, struct instance *i) { i->account->killed++; }

bool oracle_deaths_are_clear(const struct world *w) { return (w->p.faults & ~(uint32_t)(FAULT_KILL | FAULT_DOUBLE)) == 0; }

void oracle_died(struct oracle *o, struct instance *i) {
    struct account *a = i->account;
    bool clear = oracle_deaths_are_clear(o->world) &&
                 o->world->router_died_at < a->request->issued_at; // a relay would have taken its count along
    a->killed++;
    if (clear && a->request->poison && a->request->via == VIA_HTTP && a->request->http == NULL &&
        a->outcome == OUTCOME_NONE && a->killed > KILLS_MAX) {
        world_fail(o->world, "request %u has killed %u workers and was not refused after %d", a->request->number, a->killed,
                   KILLS_MAX);
    }
}
