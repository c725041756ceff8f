// The clients' half of the oracle: what was asked, what was got, how it ended.
#include "tests/sim/oracle_internal.h"

#include "common/base/check.h"
#include "tests/sim/chain.h"
#include "tests/sim/http_client.h"
#include "tests/sim/world.h"

#include <stdlib.h>

enum { SLACK_US = 2000 }; // clocks are cut to milliseconds
enum { USUAL_SLACK_US = 200000, UNNOTICED_US = 2000000 };

struct oracle *oracle_create(struct world *w) {
    struct oracle *o = xcalloc(1, sizeof *o);
    o->world = w;
    return o;
}

void oracle_destroy(struct oracle *o) {
    if (o == NULL) return;
    for (uint32_t i = 0; i < o->n_accounts; i++) {
        for (struct instance *k = o->accounts[i].instances; k != NULL; k = k->next) k->over = true;
        account_tidy(o, &o->accounts[i]);
        free(o->accounts[i].tokens);
    }
    free(o->accounts);
    free(o->instances);
    free(o);
}

// Things that may have been taken for the death of this request's worker: what broke since it was asked, or so shortly
// before that nobody had noticed.
static uint32_t disasters(const struct world *w, const struct account *a) {
    us_t unnoticed = (us_t)w->p.timers.dead_ms * 1000 + UNNOTICED_US;
    return world_disasters_since(w, a->request->issued_at - unnoticed);
}

void oracle_asked(struct oracle *o, const struct request *r) {
    CHECK(r->number == o->n_accounts);
    if (o->n_accounts == o->capacity) {
        uint32_t capacity = o->capacity ? o->capacity * 2 : 1024;
        struct account *accounts = xcalloc(capacity, sizeof *accounts);
        if (o->n_accounts) memcpy(accounts, o->accounts, o->n_accounts * sizeof *accounts);
        for (uint32_t i = 0; i < o->n_accounts; i++) { // instances point to their accounts
            for (struct instance *k = accounts[i].instances; k != NULL; k = k->next) k->account = &accounts[i];
        }
        free(o->accounts);
        o->accounts = accounts;
        o->capacity = capacity;
    }
    struct account *a = &o->accounts[o->n_accounts++];
    *a = (struct account){.request = r, .has_seed = r->has_seed, .seed = r->seed};
    o->open++;
}

void oracle_seed(struct oracle *o, const struct request *r, uint64_t seed) {
    struct account *a = &o->accounts[r->number];
    if (a->has_seed && a->seed != seed) world_fail(o->world, "request %u: its seed changed", r->number);
    a->has_seed = true;
    a->seed = seed;
}

// The first token fixes the fingerprint; from it on the client's own chain is known.
static void begin_chain(struct account *a, const struct instance *i) {
    a->start = a->chain = i->start;
    for (uint32_t k = 0; k < a->request->prompt_tokens; k++)
        a->chain = chain_next(a->chain, request_prompt_token(a->request, k));
}

static struct instance *instance_of(struct oracle *o, const struct account *a, uint32_t index, const struct record *rec) {
    uint64_t mark = 0;
    if (rec->text_len != MARK_LEN) return NULL;
    for (int d = 0; d < MARK_LEN; d++) {
        unsigned c = (unsigned char)rec->text[d];
        mark = mark << 4 | (c <= '9' ? c - '0' : c - 'a' + 10u);
    }
    uint32_t serial = (uint32_t)(mark >> 32);
    if ((uint32_t)mark != index || serial == 0 || serial > o->n_instances) return NULL;
    struct instance *i = o->instances[serial];
    return i && i->account == a ? i : NULL;
}

static void keep_token(struct account *a, uint32_t token) {
    if (a->got == a->capacity) {
        a->capacity = a->capacity ? a->capacity * 2 : 32;
        a->tokens = xrealloc(a->tokens, a->capacity * sizeof *a->tokens);
    }
    a->tokens[a->got++] = token;
    a->chain = chain_next(a->chain, token);
}

// A worker may serve a later attempt from the sequence that it has. Whatever the attempt, it must be the replica of now:
// where that is known. Of a relayed stream whose Accepted was lost only the relay is.
static bool attempt_allowed(const struct instance *i, const struct attempt *current, const char *replica) {
    int order = attempt_compare(&i->attempt, current);
    if (replica == NULL || order >= 0 || strncmp(replica, "router-", 7) == 0) return order <= 0;
    return strcmp(i->worker, replica) == 0;
}

void oracle_got(struct oracle *o, const struct request *r, uint32_t index, const struct record *rec,
                const struct attempt *attempt, const char *replica) {
    struct account *a = &o->accounts[r->number];
    struct world *w = o->world;
    uint32_t position = r->prompt_tokens + index;
    if (a->outcome != OUTCOME_NONE) {
        world_fail(w, "request %u got token %u after it had ended", r->number, index);
        return;
    }
    if (index != a->got) {
        world_fail(w, "request %u got token %u, its next is %u", r->number, index, a->got);
        return;
    }
    const struct instance *i = instance_of(o, a, index, rec);
    if (i == NULL) {
        world_fail(w, "request %u: token %u does not carry the mark of a computation of its own", r->number, index);
        return;
    }
    if (a->got == 0) begin_chain(a, i);
    if (i->start != a->start) {
        world_fail(w, "request %u: token %u comes from another fingerprint than those before", r->number, index);
    } else if (position >= i->len || i->tokens[position] != rec->token) {
        world_fail(w, "request %u: token %u is %u, which %s did not compute there", r->number, index, rec->token, i->worker);
    } else if (i->chain[position] != a->chain) {
        world_fail(w, "request %u: token %u was computed by %s (attempt %u) behind another prefix than the client holds",
                   r->number, index, i->worker, i->attempt.counter);
    } else if (a->has_seed && chain_token(a->chain, a->seed, position, i->salt) != rec->token) {
        world_fail(w, "request %u: token %u does not follow from the prefix that the client holds", r->number, index);
    } else if (!attempt_allowed(i, attempt, replica)) {
        world_fail(w, "request %u: token %u was computed in attempt %u.%u, but %u.%u was current", r->number, index,
                   i->attempt.takeover, i->attempt.counter, attempt->takeover, attempt->counter);
    } else if (rec->logprob != chain_logprob(rec->token) || !rec->has_logprob) {
        world_fail(w, "request %u: token %u lost its logprob", r->number, index);
    }
    a->current = *attempt;
    keep_token(a, rec->token);
    w->stats.tokens++;
    world_hash(w, (uint64_t)r->number << 32 ^ rec->token);
}

uint32_t oracle_got_count(const struct oracle *o, const struct request *r) { return o->accounts[r->number].got; }

void oracle_got_again(struct oracle *o, const struct request *r, uint32_t index, const struct record *rec) {
    const struct account *a = &o->accounts[r->number];
    if (a->outcome == OUTCOME_NONE && rec->token != a->tokens[index])
        world_fail(o->world, "request %u came back, and token %u is %u now, it was %u", r->number, index, rec->token,
                   a->tokens[index]);
}

static void end(struct oracle *o, struct account *a, enum outcome outcome) {
    if (a->outcome != OUTCOME_NONE) {
        world_fail(o->world, "request %u ended twice", a->request->number);
        return;
    }
    a->outcome = outcome;
    o->open--;
    o->outcomes[outcome]++;
    trace_note(&o->world->trace, o->world->now, &a->request->key, "request %u has ended: outcome %d, %u tokens",
               a->request->number, (int)outcome, a->got);
    world_hash(o->world, (uint64_t)a->request->number << 8 ^ outcome);
    account_tidy(o, a);
    free(a->tokens);
    a->tokens = NULL;
    a->capacity = 0;
}

// Without salt: the whole answer of an undisturbed run, from prompt and seed.
static void check_identity(struct oracle *o, const struct account *a) {
    const struct request *r = a->request;
    uint64_t chain = a->start;
    for (uint32_t k = 0; k < r->prompt_tokens; k++) chain = chain_next(chain, request_prompt_token(r, k));
    for (uint32_t k = 0; k < a->got; k++) {
        uint32_t token = chain_token(chain, a->seed, r->prompt_tokens + k, 0);
        if (token != a->tokens[k]) {
            world_fail(o->world, "request %u: token %u differs from an undisturbed run", r->number, k);
            return;
        }
        if (chain_stops(token, o->world->p.stop_one_in) && k + 1 != a->got) {
            world_fail(o->world, "request %u: went on behind its end at token %u", r->number, k);
            return;
        }
        chain = chain_next(chain, token);
    }
}

static us_t deadline_us(const struct world *w, const struct request *r) {
    return (us_t)(r->deadline_ms ? r->deadline_ms : w->p.deadline_default_ms) * 1000;
}

static const char *finish_fault(const struct world *w, const struct account *a, const struct msg_done *done) {
    const struct request *r = a->request;
    uint32_t room = params_context(&w->p) - r->prompt_tokens, most = r->tokens_max < room ? r->tokens_max : room;
    bool stopped = a->got > 0 && chain_stops(a->tokens[a->got - 1], w->p.stop_one_in);
    char tail[20];
    instance_tail_text(r, a->chain, tail);
    if (done->n_tokens != a->got) return "Done names another number of tokens than were got";
    bool called = stopped && chain_calls_tool(a->tokens[a->got - 1]);
    if (done->finish == FINISH_STOP && (!stopped || called))
        return "it says that it stopped, but its last token ends nothing";
    if (done->finish == FINISH_LENGTH && (a->got != most || stopped))
        return "it says that it reached its length, which it did not";
    if (a->got > most) return "it is longer than it may be";
    if (done->finish == FINISH_TOOL_CALLS && !called) return "nobody called a tool";
    if (done->finish == FINISH_CANCELLED)
        return r->cancel_at && w->now + SLACK_US >= r->cancel_at ? NULL : "nobody cancelled it";
    if (done->finish == FINISH_ERROR && done->error.id == ERR_DEADLINE) // the worker saw it first
        return w->now + SLACK_US >= r->issued_at + deadline_us(w, r) ? NULL : "its deadline has not passed";
    if (done->finish == FINISH_ERROR)
        return r->nan_index != UINT32_MAX && done->error.id == ERR_NUMERIC ? NULL : "it has no right to fail";
    if (done->usage.completion_tokens != a->got) return "its usage names another number of tokens";
    if (done->usage.prompt_tokens != r->prompt_tokens) return "its usage names another number of prompt tokens";
    if (done->tail_len != strlen(tail) || (done->tail_len && memcmp(done->tail, tail, done->tail_len) != 0))
        return "its held-back text is wrong";
    return NULL;
}

void oracle_done(struct oracle *o, const struct request *r, const struct msg_done *done) {
    struct account *a = &o->accounts[r->number];
    struct world *w = o->world;
    if (a->outcome != OUTCOME_NONE) {
        world_fail(w, "request %u ended twice", r->number);
        return;
    }
    const char *fault = finish_fault(w, a, done);
    if (fault)
        world_fail(w, "request %u: %s (n %u, got %u, finish %d)", r->number, fault, done->n_tokens, a->got,
                   (int)done->finish);
    else if (!w->p.salted && a->got > 0 && a->has_seed)
        check_identity(o, a);
    if (done->finish == FINISH_ERROR) o->failures[done->error.id]++;
    enum outcome outcome = done->finish == FINISH_CANCELLED ? OUTCOME_CANCELLED : OUTCOME_DONE;
    if (r->measured && outcome == OUTCOME_DONE) {
        w->stats.measured_done++;
        us_t usual = 2 * params_service_us(&w->p, r->prompt_tokens, a->got) + USUAL_SLACK_US;
        w->stats.measured_prompt += w->now - r->issued_at <= usual;
    }
    end(o, a, done->finish == FINISH_ERROR ? OUTCOME_FAILED : outcome);
}

// NULL: this error is a truthful answer here and now.
static const char *failure_fault(const struct world *w, const struct account *a, err_id id) {
    const struct request *r = a->request;
    bool disturbed = w->p.faults != 0;
    switch (id) {
    case ERR_DEADLINE:
        return w->now + SLACK_US >= r->issued_at + deadline_us(w, r) ? NULL : "its deadline has not passed";
    case ERR_OVERLOADED:
        return NULL; // the goodput of the liveness phase judges these
    case ERR_POISON_REQUEST:
        if (r->poison) return a->killed >= KILLS_MAX || disasters(w, a) > 0 ? NULL : "it killed too few";
        if (oracle_deaths_are_clear(w)) return a->killed >= KILLS_MAX ? NULL : "too few workers died under it";
        return disasters(w, a) >= KILLS_MAX ? NULL : "it killed nobody";
    case ERR_WORKER_LOST:
        return disasters(w, a) > 0 ? NULL : "nothing was lost";
    case ERR_UNAVAILABLE:
        return disturbed || r->pin[0] || w->now < w->p.load_max_us * 2 + 15000000 ? NULL : "replicas were there";
    case ERR_RESUME_LOST:
        return r->http && r->http->returns && disturbed && w->p.n_deployments > 1 ? NULL : "it never came back";
    case ERR_DRAINING:
        return w->p.drain > 0 ? NULL : "nothing is draining";
    case ERR_NUMERIC:
        return r->nan_index != UINT32_MAX ? NULL : "no value was NaN";
    case ERR_CONTEXT_LENGTH:
        return r->prompt_tokens >= params_context(&w->p) ? NULL : "its prompt fits";
    case ERR_CANCELLED:
        return r->cancel_at && w->now + SLACK_US >= r->cancel_at ? NULL : "nobody cancelled it";
    case ERR_NOT_FOUND:
        return r->pin[0] ? NULL : "it asked for nothing special";
    case ERR_MODEL_NOT_FOUND:
        return disturbed || w->now < w->p.load_max_us * 2 + 15000000 ? NULL : "its model is served";
    default:
        return "no request may fail for this reason";
    }
}

void oracle_failed(struct oracle *o, const struct request *r, const struct error *e) {
    struct account *a = &o->accounts[r->number];
    const char *fault = failure_fault(o->world, a, e->id);
    if (fault)
        world_fail(o->world, "request %u failed with %s (%s), but %s", r->number, error_info(e->id)->name, error_text(e),
                   fault);
    o->failures[(unsigned)e->id < ERR_COUNT ? e->id : ERR_INTERNAL]++;
    o->world->stats.innocents += e->id == ERR_POISON_REQUEST && a->killed < KILLS_MAX;
    trace_note(&o->world->trace, o->world->now, &r->key, "request %u failed: %s: %s", r->number, error_info(e->id)->name,
               error_text(e));
    end(o, a, e->id == ERR_CANCELLED ? OUTCOME_CANCELLED : OUTCOME_FAILED);
}

void oracle_gave_up(struct oracle *o, const struct request *r, enum outcome outcome) {
    end(o, &o->accounts[r->number], outcome);
}

bool oracle_ended(const struct oracle *o, const struct request *r) { return o->accounts[r->number].outcome != OUTCOME_NONE; }
uint32_t oracle_open(const struct oracle *o) { return o->open; }
uint32_t oracle_count(const struct oracle *o, enum outcome outcome) { return o->outcomes[outcome]; }
uint32_t oracle_failed_count(const struct oracle *o, err_id id) { return o->failures[id]; }

const struct request *oracle_an_open_one(const struct oracle *o) {
    for (uint32_t i = 0; i < o->n_accounts; i++) {
        if (o->accounts[i].outcome == OUTCOME_NONE) return o->accounts[i].request;
    }
    return NULL;
}
