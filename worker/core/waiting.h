// The sequences that wait for a slot. Higher priority first; within one priority those that had a slot before, by age, then
// those that came with records, which may go ahead of OVERTAKEN_MAX others, then the rest: of the tenant that has had the
// least, in the order in which they came.
#pragma once
#include "worker/core/fair.h"
#include "worker/core/sequence.h"

enum { OVERTAKEN_MAX = 8 }; // resumed sequences that may go ahead of one fresh one

struct waiting {
    struct sequence *first, *last;
    uint32_t n;
};

void waiting_add(struct waiting *w, struct sequence *seq); // becomes WAITING
void waiting_remove(struct waiting *w, struct sequence *seq);
// Who is next, among those of whom `may` says so; NULL: nobody.
struct sequence *waiting_next(const struct waiting *w, const struct fair *fair, bool (*may)(void *ctx, struct sequence *seq),
                              void *ctx);
void waiting_check(const struct waiting *w);
