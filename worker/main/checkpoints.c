// A job's life: queued by a hook → begun in a later turn, if the core still wants it → the engine and the pool, in the order
// that its kind needs → the core is told. Out: export, write. In: read, import, delete.
#include "worker/main/checkpoints.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPIRE_MS = 60000 }; // the store is looked through for what has expired

struct job {
    struct checkpoints *owner;
    struct job *next;
    bool restores, begun, at_engine;
    uint64_t ticket;
    uint32_t slot, count;
    char handle[CHECKPOINT_HANDLE_SIZE];
    struct sequence_state state; // out: tokens is owned
    uint8_t *bytes;              // out: entries; in: the part, its head first
    uint64_t written;
    ms_t began_at;
    uv_work_t work;
    struct error error;
};

struct checkpoints {
    struct checkpoints_options options;
    struct engine_thread *engine; // NULL until READY, and after close
    bool closed;
    char fingerprint[FINGERPRINT_SIZE];
    struct state_part shard; // ours
    struct job *first;       // all, oldest first
    uint32_t n_begun;
    uv_work_t expiry;
    bool expiring;
    ms_t expire_at;
};

struct checkpoints *checkpoints_create(const struct checkpoints_options *options) {
    struct checkpoints *c = xcalloc(1, sizeof *c);
    c->options = *options;
    c->expiry.data = c;
    return c;
}

void checkpoints_serve(struct checkpoints *c, struct engine_thread *engine, const char *fingerprint) {
    const struct engine_info *info = engine_thread_info(engine);
    c->engine = engine;
    snprintf(c->fingerprint, sizeof c->fingerprint, "%s", fingerprint);
    c->shard = (struct state_part){.layer_first = info->layer_first, .layer_end = info->layer_end};
    c->shard.bytes_per_token = info->kv_bytes_per_token;
}

static struct job *add_job(struct checkpoints *c, uint64_t ticket, uint32_t slot, uint32_t count) {
    struct job *j = xcalloc(1, sizeof *j), **at = &c->first;
    *j = (struct job){.owner = c, .ticket = ticket, .slot = slot, .count = count};
    j->work.data = j;
    while (*at != NULL) at = &(*at)->next;
    return *at = j;
}

static void drop_job(struct job *j) {
    struct checkpoints *c = j->owner;
    struct job **at = &c->first;
    while (*at != j) at = &(*at)->next;
    *at = j->next;
    c->n_begun -= j->begun;
    if (!j->restores) free((void *)j->state.tokens);
    free(j->bytes);
    free(j);
}

// ---- out ----

static void log_written(const struct job *j) {
    char request[REQUEST_ID_TEXT];
    request_id_text(&j->state.key.request, request);
    if (j->error.id != ERR_NONE)
        log_warn("checkpoint_failed", "request=%s tokens=%u reason=%s", request, j->state.n_tokens, error_text(&j->error));
    else
        log_info("checkpoint_written", "request=%s handle=%s tokens=%u computed=%u bytes=%" PRIu64 " ms=%lld", request,
                 j->handle, j->state.n_tokens, j->state.n_computed, j->written, (long long)(clock_ms() - j->began_at));
}

static void delete_on_pool(uv_work_t *work) {
    const struct job *j = work->data;
    checkpoint_delete(j->owner->options.store, j->handle);
}

static void on_deleted(uv_work_t *work, int status) { drop_job(work->data); }

static void delete_files(struct job *j) {
    CHECK(uv_queue_work(j->owner->options.loop, &j->work, delete_on_pool, on_deleted) == 0);
}

// The core is told once, then the job goes, with its files if nobody wants them.
static void finish_write(struct job *j) {
    struct checkpoints *c = j->owner;
    bool failed = j->error.id != ERR_NONE, wanted = false;
    log_written(j);
    if (!c->closed)
        wanted = worker_core_checkpointed(c->options.core, j->ticket, failed ? NULL : j->handle, j->written, clock_ms());
    if (wanted && !failed)
        drop_job(j);
    else
        delete_files(j);
}

static void write_on_pool(uv_work_t *work) {
    struct job *j = work->data;
    struct checkpoint_store *store = j->owner->options.store;
    checkpoint_draw_handle(j->handle);
    if (checkpoint_write_part(store, j->handle, &j->state, 0, j->bytes, &j->error) != ERR_NONE) return;
    checkpoint_write_manifest(store, j->handle, &j->state, &j->written, &j->error);
}

static void on_written(uv_work_t *work, int status) {
    struct job *j = work->data;
    if (status != 0) error_set(&j->error, ERR_CANCELLED, "the process is ending");
    finish_write(j);
}

void checkpoints_write(struct checkpoints *c, uint64_t ticket, const struct checkpoint_request *r) {
    struct job *j = add_job(c, ticket, r->slot, r->n_computed);
    uint32_t *tokens = xmalloc(r->n_tokens * sizeof *tokens);
    memcpy(tokens, r->tokens, r->n_tokens * sizeof *tokens);
    j->state = (struct sequence_state){.key = r->key, .n_tokens = r->n_tokens, .n_prompt = r->n_prompt, .tokens = tokens};
    j->state.n_computed = r->n_computed;
    j->state.n_parts = 1;
    j->state.parts[0] = c->shard;
    snprintf(j->state.fingerprint, sizeof j->state.fingerprint, "%s", c->fingerprint);
}

static void begin_write(struct job *j) {
    struct checkpoints *c = j->owner;
    j->bytes = malloc((size_t)state_part_bytes(&j->state, 0));
    if (j->bytes == NULL) {
        error_set(&j->error, ERR_SYSTEM, "no memory for %" PRIu64 " bytes", state_part_bytes(&j->state, 0));
        finish_write(j);
        return;
    }
    j->at_engine = true;
    engine_thread_export(c->engine, &(struct engine_move){j->ticket, j->slot, j->count, j->bytes, 0});
}

// ---- in ----

bool checkpoints_reach(const struct checkpoints *c, const struct msg_generate *g) {
    return g->restore[0] != '\0' && strcmp(g->store, checkpoint_store_id(c->options.store)) == 0;
}

void checkpoints_look(struct checkpoints *c, const struct stream_key *key, const char *handle, const uint32_t *tokens,
                      uint32_t n_tokens, struct checkpoint_found *found) {
    struct error e = {0};
    uint8_t *bytes;
    *found = (struct checkpoint_found){0};
    err_id id = checkpoint_read_manifest(c->options.store, handle, &bytes, &found->state, &e);
    if (id == ERR_NONE) {
        struct state_expectation want = {.fingerprint = c->fingerprint, .key = *key, .tokens = tokens, .n_tokens = n_tokens};
        want.n_parts = 1;
        want.parts = &c->shard;
        id = state_matches(&found->state, &want, &found->n_usable, &e);
    }
    // The entries of each layer lie together: a part is loaded whole or not at all, and a last token is left to compute.
    if (id == ERR_NONE && (found->n_usable < found->state.n_computed || found->n_usable >= n_tokens))
        id = error_set(&e, ERR_PROTOCOL, "it goes further than the router's %u tokens", n_tokens);
    if (id != ERR_NONE) found->n_usable = 0;
    free(bytes);
    found->state.tokens = NULL;
    if (id == ERR_NONE) snprintf(found->handle, sizeof found->handle, "%s", handle);
    if (id != ERR_NONE) log_warn("checkpoint_unusable", "handle=%s reason=%s", handle, error_text(&e));
}

static void finish_restore(struct job *j) {
    struct checkpoints *c = j->owner;
    bool ok = j->error.id == ERR_NONE;
    if (ok)
        log_info("checkpoint_restored", "handle=%s tokens=%u ms=%lld", j->handle, j->count,
                 (long long)(clock_ms() - j->began_at));
    else
        log_warn("checkpoint_unusable", "handle=%s reason=%s", j->handle, error_text(&j->error));
    if (!c->closed) worker_core_restored(c->options.core, j->ticket, ok, clock_ms());
    if (ok && !c->closed)
        delete_files(j); // used up
    else
        drop_job(j);
}

static void read_on_pool(uv_work_t *work) {
    struct job *j = work->data;
    checkpoint_read_part(j->owner->options.store, j->handle, &j->state, 0, &j->bytes, &j->error);
}

static void on_read(uv_work_t *work, int status) {
    struct job *j = work->data;
    struct checkpoints *c = j->owner;
    if (status != 0 || c->closed) error_set(&j->error, ERR_CANCELLED, "the process is ending");
    if (j->error.id == ERR_NONE && !worker_core_wants(c->options.core, j->ticket))
        error_set(&j->error, ERR_CANCELLED, "nobody waits for it any more");
    if (j->error.id != ERR_NONE) {
        finish_restore(j);
        return;
    }
    j->at_engine = true;
    uint8_t *entries = j->bytes + STATE_PART_HEAD_BYTES;
    engine_thread_import(c->engine, &(struct engine_move){j->ticket, j->slot, j->count, entries, j->state.parts[0].hash});
}

void checkpoints_restore(struct checkpoints *c, uint64_t ticket, uint32_t slot, const struct checkpoint_found *found,
                         uint32_t n) {
    struct job *j = add_job(c, ticket, slot, n);
    j->restores = true;
    j->state = found->state;
    memcpy(j->handle, found->handle, sizeof j->handle);
}

// ---- both ----

void checkpoints_moved(struct checkpoints *c, const struct engine_event *event) {
    struct job *j = c->first;
    while (j != NULL && (j->ticket != event->ticket || !j->at_engine)) j = j->next;
    CHECK(j != NULL);
    j->at_engine = false;
    if (event->error.id != ERR_NONE) j->error = event->error;
    if (j->restores) {
        finish_restore(j);
    } else if (j->error.id != ERR_NONE) {
        finish_write(j);
    } else {
        j->state.parts[0].hash = event->hash;
        CHECK(uv_queue_work(c->options.loop, &j->work, write_on_pool, on_written) == 0);
    }
}

static void begin(struct job *j) {
    struct checkpoints *c = j->owner;
    j->begun = true;
    j->began_at = clock_ms();
    c->n_begun++;
    if (!worker_core_wants(c->options.core, j->ticket)) {
        error_set(&j->error, ERR_CANCELLED, "nobody waits for it any more");
        j->restores ? finish_restore(j) : finish_write(j);
    } else if (j->restores) {
        CHECK(uv_queue_work(c->options.loop, &j->work, read_on_pool, on_read) == 0);
    } else {
        begin_write(j);
    }
}

static void expire_on_pool(uv_work_t *work) {
    struct checkpoints *c = work->data;
    struct checkpoint_usage usage;
    struct error e = {0};
    if (checkpoint_expire(c->options.store, 0, &usage, &e) != ERR_NONE)
        log_warn("checkpoints_not_expired", "reason=%s", error_text(&e));
    else if (usage.expired > 0)
        log_info("checkpoints_expired", "files=%u kept_files=%u kept_bytes=%" PRIu64, usage.expired, usage.files,
                 usage.bytes);
}

static void on_expired(uv_work_t *work, int status) { ((struct checkpoints *)work->data)->expiring = false; }

static void expire(struct checkpoints *c) {
    if (c->expiring || clock_ms() < c->expire_at) return;
    c->expiring = true;
    c->expire_at = clock_ms() + EXPIRE_MS;
    CHECK(uv_queue_work(c->options.loop, &c->expiry, expire_on_pool, on_expired) == 0);
}

void checkpoints_turn(struct checkpoints *c) {
    if (c->closed || c->engine == NULL) return;
    expire(c);
    for (struct job *j = c->first, *next; j != NULL && c->n_begun < CHECKPOINTS_AT_ONCE; j = next) {
        next = j->next;
        if (!j->begun) begin(j);
    }
}

void checkpoints_close(struct checkpoints *c) {
    c->closed = true;
    c->engine = NULL;
}

void checkpoints_destroy(struct checkpoints **handle) {
    struct checkpoints *c = *handle;
    *handle = NULL;
    if (c == NULL) return;
    while (c->first != NULL) drop_job(c->first); // those that wait, or were with the engine when it was stopped
    free(c);
}
