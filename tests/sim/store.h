// The checkpoint stores of the simulated cluster: what a directory on a shared disk is to real workers. A write may be torn,
// lose its rename, suffer a flipped bit, find the disk full, or take long; a reader has only its hashes to tell. What is
// checked here is what a store checks; whether blocks hold what belongs there is the oracle's business.
#pragma once
#include "common/base/limits.h"
#include "tests/sim/options.h"

struct world;
struct store_set;

struct store_content {
    const char *fingerprint;
    const uint32_t *tokens; // [n]
    const uint64_t *chain;  // [n]: what the blocks hold
    uint32_t n;             // positions
};

struct store_set *store_set_create(void);
void store_set_destroy(struct store_set *s);
us_t store_delay(struct world *w); // of one write or read
// false: it is full. Else handle names it, kept for lease_us at least, even if by some fault nothing can be read back.
bool store_write(struct world *w, uint32_t store, const struct store_content *c, us_t lease_us, char handle[NAME_SIZE]);
void store_delete(struct world *w, const char *handle);
// How many of the tokens it holds, from the first on; 0: none, or it is not there, of another fingerprint, or damaged.
uint32_t store_look(struct world *w, uint32_t store, const char *handle, const struct store_content *wanted);
// What the first n blocks' positions hold, valid until the next write; NULL: missing or damaged.
const uint64_t *store_read(struct world *w, const char *handle, uint32_t n);
