#include "worker/main/part_keeper.h"

#include "common/base/check.h"
#include "common/sys/log.h"

#include <stdlib.h>
#include <string.h>

struct part_keeper {
    struct part_keeper_options options;
    bool closed;
};

struct job {
    struct part_keeper *owner;
    struct group_msg *m;
    uv_work_t work;
};

struct part_keeper *part_keeper_create(const struct part_keeper_options *options) {
    struct part_keeper *k = xcalloc(1, sizeof *k);
    k->options = *options;
    return k;
}

// As much of the sequence's state as a part's head says.
static struct sequence_state *state_of(const struct part_keeper *k, const struct group_part *p) {
    struct sequence_state *s = xcalloc(1, sizeof *s);
    s->key = p->key;
    s->n_computed = p->count;
    s->n_parts = k->options.stage + 1;
    s->parts[k->options.stage] = p->shard;
    s->parts[k->options.stage].stage = k->options.stage;
    return s;
}

static void on_pool(uv_work_t *work) {
    struct job *j = work->data;
    struct group_part *p = &j->m->part;
    struct checkpoint_store *store = j->owner->options.store;
    struct sequence_state *state = state_of(j->owner, p);
    uint32_t stage = j->owner->options.stage;
    uint8_t *bytes;
    if (j->m->kind == GROUP_SAVE) {
        checkpoint_write_part(store, p->handle, state, stage, p->entries, &p->error);
    } else if (checkpoint_read_part(store, p->handle, state, stage, &bytes, &p->error) == ERR_NONE) {
        j->m->owned[0] = bytes;
        p->entries = bytes + STATE_PART_HEAD_BYTES;
    }
    free(state);
}

static void on_done(uv_work_t *work, int status) {
    struct job *j = work->data;
    struct part_keeper *k = j->owner;
    struct group_part *p = &j->m->part;
    bool saves = j->m->kind == GROUP_SAVE;
    if (status != 0) error_set(&p->error, ERR_CANCELLED, "the process is ending");
    if (p->error.id != ERR_NONE)
        log_warn(saves ? "checkpoint_part_failed" : "checkpoint_part_unusable", "handle=%s reason=%s", p->handle,
                 error_text(&p->error));
    if (k->closed)
        group_msg_free(j->m);
    else
        k->options.done(k->options.ctx, j->m);
    free(j);
}

void part_keeper_take(struct part_keeper *k, struct group_msg *m) {
    struct job *j = xcalloc(1, sizeof *j);
    *j = (struct job){.owner = k, .m = m};
    j->work.data = j;
    CHECK(uv_queue_work(k->options.loop, &j->work, on_pool, on_done) == 0);
}

void part_keeper_close(struct part_keeper *k) { k->closed = true; }

void part_keeper_destroy(struct part_keeper **k) {
    free(*k);
    *k = NULL;
}
