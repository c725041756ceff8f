#include "tests/unit/worker/core/fake_store.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { KEPT_MAX = 1024, JOBS_MAX = 256 };

struct kept {
    uint64_t *entries; // NULL: deleted
    uint32_t n;
};

struct fake_store {
    struct kept kept[KEPT_MAX];
    uint32_t n;
};

struct job {
    bool restores;
    uint64_t ticket, after_step;
    uint32_t slot, n, kept;
};

struct fake_moves {
    struct worker_core *core;
    struct fake_engine *engine;
    struct fake_store *store;
    struct job jobs[JOBS_MAX];
    uint32_t n_jobs;
    bool hold;
    uint32_t checkpoints_one_in, restores_one_in;
    uint64_t random;
};

struct fake_store *fake_store_create(void) {
    return xcalloc(1, sizeof(struct fake_store));
}

void fake_store_destroy(struct fake_store *s) {
    for (uint32_t i = 0; i < s->n; i++) free(s->kept[i].entries);
    free(s);
}

static uint32_t index_of(const struct fake_store *s, const char *handle) {
    unsigned i;
    return sscanf(handle, "kept-%u", &i) == 1 && i < s->n ? i : UINT32_MAX;
}

uint32_t fake_store_find(const struct fake_store *s, const char *handle) {
    uint32_t i = index_of(s, handle);
    return i == UINT32_MAX || s->kept[i].entries == NULL ? 0 : s->kept[i].n;
}

uint32_t fake_store_count(const struct fake_store *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) n += s->kept[i].entries != NULL;
    return n;
}

struct fake_moves *fake_moves_create(struct worker_core *core, struct fake_engine *engine, struct fake_store *store) {
    struct fake_moves *m = xcalloc(1, sizeof *m);
    *m = (struct fake_moves){.core = core, .engine = engine, .store = store, .random = 1};
    return m;
}

void fake_moves_destroy(struct fake_moves *m) { free(m); }
void fake_moves_hold(struct fake_moves *m, bool hold) { m->hold = hold; }

void fake_moves_fail(struct fake_moves *m, uint32_t checkpoints_one_in, uint32_t restores_one_in) {
    m->checkpoints_one_in = checkpoints_one_in;
    m->restores_one_in = restores_one_in;
}

static struct job *add_job(struct fake_moves *m, uint64_t ticket, uint32_t slot, uint32_t n) {
    assert_true(m->n_jobs < JOBS_MAX && ticket != 0 && n > 0);
    assert_true(worker_core_wants(m->core, ticket));
    struct job *j = &m->jobs[m->n_jobs++];
    *j = (struct job){.ticket = ticket, .after_step = fake_engine_last_step(m->engine), .slot = slot, .n = n};
    return j;
}

void fake_moves_checkpoint(struct fake_moves *m, uint64_t ticket, const struct checkpoint_request *r) {
    assert_non_null(m->store);
    assert_true(r->n_computed < r->n_tokens && r->n_prompt > 0 && r->n_prompt <= r->n_tokens);
    struct job *j = &m->jobs[m->n_jobs];
    assert_true(m->n_jobs < JOBS_MAX);
    *j = (struct job){.ticket = ticket, .slot = r->slot, .n = r->n_computed};
    m->n_jobs++;
}

void fake_moves_restore(struct fake_moves *m, uint64_t ticket, uint32_t slot, const char *handle, uint32_t n) {
    assert_non_null(m->store);
    add_job(m, ticket, slot, n)->kept = index_of(m->store, handle);
    m->jobs[m->n_jobs - 1].restores = true;
}

static bool fails(struct fake_moves *m, uint32_t one_in) { return one_in > 0 && hash_mix(m->random++) % one_in == 0; }

static void answer_checkpoint(struct fake_moves *m, const struct job *j, ms_t now) {
    struct fake_store *s = m->store;
    bool wanted = worker_core_wants(m->core, j->ticket);
    if (!wanted || fails(m, m->checkpoints_one_in)) {
        assert_true(worker_core_checkpointed(m->core, j->ticket, NULL, 0, now) == wanted);
        return;
    }
    assert_true(s->n < KEPT_MAX);
    struct kept *k = &s->kept[s->n];
    k->n = j->n;
    k->entries = xcalloc(j->n, sizeof *k->entries);
    fake_engine_export(m->engine, j->slot, j->n, k->entries);
    char handle[NAME_SIZE];
    snprintf(handle, sizeof handle, "kept-%u", s->n++);
    assert_true(worker_core_checkpointed(m->core, j->ticket, handle, 8 * (uint64_t)j->n, now));
}

static void answer_restore(struct fake_moves *m, const struct job *j, ms_t now) {
    struct kept *k = j->kept == UINT32_MAX ? NULL : &m->store->kept[j->kept];
    bool wanted = worker_core_wants(m->core, j->ticket), ok = wanted && k && k->entries && !fails(m, m->restores_one_in);
    if (ok) {
        fake_engine_import(m->engine, j->slot, j->n, k->entries);
        free(k->entries);
        k->entries = NULL; // used up
    }
    worker_core_restored(m->core, j->ticket, ok, now);
}

void fake_moves_turn(struct fake_moves *m, ms_t now) {
    for (uint32_t i = 0; i < m->n_jobs && !m->hold;) {
        struct job j = m->jobs[i];
        if (!fake_engine_answered(m->engine, j.after_step)) {
            i++;
            continue;
        }
        m->n_jobs--;
        memmove(&m->jobs[i], &m->jobs[i + 1], (m->n_jobs - i) * sizeof j);
        (j.restores ? answer_restore : answer_checkpoint)(m, &j, now);
    }
}
