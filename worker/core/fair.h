// Fair share between tenants by virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI
// 2024): each tenant's counter rises with the tokens that are computed for it, those of answers weighing double, and of the
// sequences that wait the next is one of the tenant with the least. A tenant that comes back does not bring what it didn't
// use: its counter starts at the least of those that are there. Pure; a fixed number of accounts.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { FAIR_ACCOUNTS = 256, FAIR_ANSWER_WEIGHT = 2 };

struct fair_account {
    uint64_t tenant, counter;
    uint32_t n_live; // sequences that wait or run
};

struct fair {
    struct fair_account account[FAIR_ACCOUNTS]; // the last one is for all that find no other free
    uint32_t n;
};

// A sequence of this tenant (a hash of its name) begins, and has ended. Returns its account's number.
uint32_t fair_begin(struct fair *f, uint64_t tenant);
void fair_end(struct fair *f, uint32_t account);
static inline void fair_charge(struct fair *f, uint32_t account, uint64_t tokens) { f->account[account].counter += tokens; }
static inline uint64_t fair_counter(const struct fair *f, uint32_t account) { return f->account[account].counter; }
