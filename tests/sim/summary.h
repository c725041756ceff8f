// What a run was and how it ended: the JSON line that scripts read, and the sentences that people read.
#pragma once
#include "tests/sim/world.h"
#include <stdio.h>

struct summary {
    uint64_t seed, requests, done, failed, cancelled, router_died, client_died, tokens, attempts, replacements;
    uint64_t kills, drains, lost, doubled, resets, partitions, pauses, returns, moves, restores, regroups, innocents,
        protocol_errors, events, hash;
    uint64_t failures[ERR_COUNT];
    double hours, wall_s, goodput;
    bool ok;
};

void summary_take(struct summary *s, const struct world *w, double wall_s);
void summary_add(struct summary *total, const struct summary *s);
void summary_print(const struct summary *s, uint64_t seeds, FILE *out); // seeds > 1: a total
