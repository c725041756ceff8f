// What the two halves of the oracle share: accounts of requests (oracle.c) and instances in workers (oracle_engine.c).
#pragma once
#include "tests/sim/oracle.h"

struct instance {
    uint32_t serial;
    struct account *account;
    struct attempt attempt;
    const char *worker; // its name
    uint64_t salt, seed;
    uint64_t start;      // of the chain: the fingerprint's
    uint32_t n_given;    // records it began with
    uint32_t n_recorded; // those included
    uint32_t len;        // tokens of prompt and answer that the engine knows
    uint32_t *tokens;    // owned, [capacity]
    uint64_t *chain;     // owned, [capacity + 1]: chain[n] is over the first n tokens
    uint32_t capacity;
    bool over; // released, or died with its worker
    char mark[20], tail[20], handle[NAME_SIZE];
    struct top_logprob top[2];
    struct instance *next; // of the account
};

struct account {
    const struct request *request;
    enum outcome outcome;
    bool has_seed;
    uint64_t seed;
    uint64_t start, chain; // of the fingerprint that serves it; over prompt and what was got
    uint32_t got, capacity;
    uint32_t *tokens;       // owned
    struct attempt current; // in which the last token came
    uint32_t killed;        // workers that died while computing it
    struct instance *instances;
};

struct oracle {
    struct world *world;
    struct account *accounts; // owned, by request number
    uint32_t n_accounts, capacity;
    struct instance **instances; // owned, by serial
    uint32_t n_instances, instances_capacity;
    uint32_t open, outcomes[OUTCOME_COUNT], failures[ERR_COUNT];
};

enum { MARK_LEN = 16 };

// In this run nothing but death looks like death.
bool oracle_deaths_are_clear(const struct world *w);
// Frees the instances that are over, once the request has ended.
void account_tidy(struct oracle *o, struct account *a);
void instance_tail_text(const struct request *r, uint64_t chain, char out[20]);
