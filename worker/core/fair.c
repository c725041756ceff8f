#include "worker/core/fair.h"

#include "common/base/check.h"

enum { SHARED = FAIR_ACCOUNTS - 1 };

static uint64_t least_live(const struct fair *f) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < FAIR_ACCOUNTS; i++)
        if (f->account[i].n_live > 0 && f->account[i].counter < least) least = f->account[i].counter;
    return least == UINT64_MAX ? 0 : least;
}

// The tenant's, else a new one, else that of the tenant that has been idle with the least, else the shared one.
static uint32_t account_of(struct fair *f, uint64_t tenant) {
    uint32_t idle = SHARED;
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->account[i].tenant == tenant) return i;
        bool better = idle == SHARED || f->account[i].counter < f->account[idle].counter;
        if (f->account[i].n_live == 0 && better) idle = i;
    }
    if (f->n < SHARED) idle = f->n++;
    if (idle != SHARED) f->account[idle] = (struct fair_account){.tenant = tenant};
    return idle;
}

uint32_t fair_begin(struct fair *f, uint64_t tenant) {
    uint32_t i = account_of(f, tenant);
    uint64_t least = least_live(f);
    struct fair_account *a = &f->account[i];
    if (a->n_live++ == 0 && a->counter < least) a->counter = least;
    return i;
}

void fair_end(struct fair *f, uint32_t account) {
    CHECK(f->account[account].n_live > 0);
    f->account[account].n_live--;
}
