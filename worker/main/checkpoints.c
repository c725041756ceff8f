// A job's life: queued by a hook → begun in a later turn, if the core still wants it → the engine and the pool, in the order
// that its kind needs → the core is told. Out: export, write, the manifest when all followers have written too. In: read,
// import, then the followers, delete. The engine comes before the followers, because it has then answered all plans that
// were given to it before, and what is told to followers keeps its order: the slot's blocks are known everywhere.
#include "worker/main/checkpoints.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"

#include <inttypes.h>
#include <pthread.h>
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
    bool busy;                   // own part: with the engine or on the pool
    uint32_t waits;              // bit k: for stage k's answer
    ms_t give_up_at;             // when it waits no longer
    struct sequence_state state; // out: tokens is owned
    uint8_t *bytes;              // out: entries; in: the part, its head first
    uint64_t written;
    ms_t began_at;
    uv_work_t work;
    struct error error;
    struct error pool_error; // of the pool's thread, while others may fail
};

struct checkpoints {
    struct checkpoints_options options;
    struct engine_thread *engine; // NULL until READY, and after close
    bool closed;
    pthread_mutex_t lock; // of the next three, which jobs on the pool read
    char fingerprint[FINGERPRINT_SIZE];
    struct state_part shards[GROUP_STAGES_MAX]; // ours first
    uint32_t n_shards;
    char place[NAME_SIZE]; // the loop's alone
    struct job *first;     // all, oldest first
    uint32_t n_begun;
    uv_work_t expiry;
    bool expiring;
    ms_t expire_at;
};

struct checkpoints *checkpoints_create(const struct checkpoints_options *options) {
    struct checkpoints *c = xcalloc(1, sizeof *c);
    c->options = *options;
    c->expiry.data = c;
    CHECK(pthread_mutex_init(&c->lock, NULL) == 0);
    return c;
}

err_id checkpoints_open_store(const struct host_settings *s, struct checkpoint_store **store, struct error *e) {
    *store = NULL;
    if (s->checkpoint_dir == NULL || s->checkpoint_dir[0] == '\0') return ERR_NONE;
    struct checkpoint_store_options o = {.dir = s->checkpoint_dir,
                                         .quota_bytes = s->config.spot.quota_bytes,
                                         .age_max_ms = s->config.spot.max_age_ms,
                                         .lease_ms = CHECKPOINT_LEASE_MS};
    return checkpoint_store_open(&o, store, e);
}

// The store's id alone where one process holds all layers.
static void name_place(struct checkpoints *c) {
    uint64_t split = 0;
    for (uint32_t i = 0; i < c->n_shards; i++) split = hash_mix(split ^ (c->shards[i].layer_end + 1));
    const char *id = checkpoint_store_id(c->options.store);
    if (c->n_shards > 1)
        snprintf(c->place, sizeof c->place, "%s-%08x", id, (uint32_t)split);
    else
        snprintf(c->place, sizeof c->place, "%s", c->n_shards > 0 ? id : "");
}

const char *checkpoints_place(const struct checkpoints *c) { return c->place; }

void checkpoints_serve(struct checkpoints *c, struct engine_thread *engine, const char *fingerprint,
                       const struct state_part *shards, uint32_t n_shards) {
    c->engine = engine;
    pthread_mutex_lock(&c->lock);
    snprintf(c->fingerprint, sizeof c->fingerprint, "%s", fingerprint);
    c->n_shards = n_shards;
    memcpy(c->shards, shards, n_shards * sizeof *shards);
    pthread_mutex_unlock(&c->lock);
    name_place(c);
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

static void go_on(struct job *j);

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

static void part_on_pool(uv_work_t *work) {
    struct job *j = work->data;
    checkpoint_write_part(j->owner->options.store, j->handle, &j->state, 0, j->bytes, &j->pool_error);
}

static void manifest_on_pool(uv_work_t *work) {
    struct job *j = work->data;
    checkpoint_write_manifest(j->owner->options.store, j->handle, &j->state, &j->written, &j->error);
}

static void on_manifest(uv_work_t *work, int status) {
    struct job *j = work->data;
    if (status != 0) error_set(&j->error, ERR_CANCELLED, "the process is ending");
    finish_write(j);
}

static void on_part(uv_work_t *work, int status) {
    struct job *j = work->data;
    if (status != 0) error_set(&j->pool_error, ERR_CANCELLED, "the process is ending");
    if (j->error.id == ERR_NONE) j->error = j->pool_error;
    j->busy = false;
    go_on(j);
}

void checkpoints_write(struct checkpoints *c, uint64_t ticket, const struct checkpoint_request *r) {
    struct job *j = add_job(c, ticket, r->slot, r->n_computed);
    uint32_t *tokens = xmalloc(r->n_tokens * sizeof *tokens);
    memcpy(tokens, r->tokens, r->n_tokens * sizeof *tokens);
    j->state = (struct sequence_state){.key = r->key, .n_tokens = r->n_tokens, .n_prompt = r->n_prompt, .tokens = tokens};
    j->state.n_computed = r->n_computed;
    j->state.n_parts = c->n_shards;
    memcpy(j->state.parts, c->shards, c->n_shards * sizeof *c->shards);
    snprintf(j->state.fingerprint, sizeof j->state.fingerprint, "%s", c->fingerprint);
    checkpoint_draw_handle(j->handle);
}

static void begin_write(struct job *j) {
    struct checkpoints *c = j->owner;
    if (j->state.n_parts > 0) j->bytes = malloc((size_t)state_part_bytes(&j->state, 0));
    if (j->bytes == NULL) {
        if (j->state.n_parts == 0)
            error_set(&j->error, ERR_CONFIG, "the stages don't have the same checkpoint store");
        else
            error_set(&j->error, ERR_SYSTEM, "no memory for %" PRIu64 " bytes", state_part_bytes(&j->state, 0));
        finish_write(j);
        return;
    }
    j->at_engine = j->busy = true;
    engine_thread_export(c->engine, &(struct engine_move){j->ticket, j->slot, j->count, j->bytes, 0});
}

// ---- in ----

bool checkpoints_reach(struct checkpoints *c, const struct msg_generate *g) {
    return c->place[0] != '\0' && g->restore[0] != '\0' && strcmp(g->store, c->place) == 0;
}

void checkpoints_look(struct checkpoints *c, const struct stream_key *key, const char *handle, const uint32_t *tokens,
                      uint32_t n_tokens, struct checkpoint_found *found) {
    struct error e = {0};
    uint8_t *bytes;
    *found = (struct checkpoint_found){0};
    err_id id = checkpoint_read_manifest(c->options.store, handle, &bytes, &found->state, &e);
    if (id == ERR_NONE) {
        struct state_expectation want = {.fingerprint = c->fingerprint, .key = *key, .tokens = tokens, .n_tokens = n_tokens};
        pthread_mutex_lock(&c->lock);
        want.n_parts = c->n_shards;
        want.parts = c->shards;
        id = state_matches(&found->state, &want, &found->n_usable, &e);
        pthread_mutex_unlock(&c->lock);
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
    j->at_engine = j->busy = true;
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

static void ask_followers(struct job *j, enum group_kind kind) {
    struct checkpoints *c = j->owner;
    struct group_part part = {.ticket = j->ticket, .slot = j->slot, .count = j->count, .key = j->state.key};
    memcpy(part.handle, j->handle, sizeof part.handle);
    j->give_up_at = clock_ms() + CHECKPOINT_PART_MS;
    for (uint32_t s = 1; s < j->state.n_parts; s++) {
        j->waits |= 1u << s;
        part.shard.hash = kind == GROUP_LOAD ? j->state.parts[s].hash : 0;
        c->options.ask(c->options.ctx, s, kind, &part);
    }
}

// Something that it waited for has come, or won't.
static void go_on(struct job *j) {
    if (j->busy || j->waits != 0) return;
    if (j->restores)
        finish_restore(j);
    else if (j->error.id != ERR_NONE)
        finish_write(j);
    else
        CHECK(uv_queue_work(j->owner->options.loop, &j->work, manifest_on_pool, on_manifest) == 0);
}

void checkpoints_moved(struct checkpoints *c, const struct engine_event *event) {
    struct job *j = c->first;
    while (j != NULL && (j->ticket != event->ticket || !j->at_engine)) j = j->next;
    CHECK(j != NULL);
    j->at_engine = j->busy = false;
    if (event->error.id != ERR_NONE) j->error = event->error;
    bool several = j->state.n_parts > 1;
    if (j->error.id == ERR_NONE && several && !worker_core_wants(c->options.core, j->ticket))
        error_set(&j->error, ERR_CANCELLED, "nobody waits for it any more");
    if (j->error.id == ERR_NONE) ask_followers(j, j->restores ? GROUP_LOAD : GROUP_SAVE);
    if (j->error.id == ERR_NONE && !j->restores) {
        j->state.parts[0].hash = event->hash;
        j->busy = true;
        CHECK(uv_queue_work(c->options.loop, &j->work, part_on_pool, on_part) == 0);
    }
    go_on(j);
}

void checkpoints_part_done(struct checkpoints *c, uint32_t stage, const struct group_part_done *done) {
    struct job *j = c->first;
    while (j != NULL && (j->ticket != done->ticket || (j->waits & 1u << stage) == 0)) j = j->next;
    if (j == NULL) return; // it came too late
    j->waits &= ~(1u << stage);
    if (!j->restores) j->state.parts[stage].hash = done->hash;
    if (done->failure[0] != '\0' && j->error.id == ERR_NONE)
        error_set(&j->error, ERR_SYSTEM, "stage %u: %s", stage, done->failure);
    go_on(j);
}

// busy jobs see `waits` gone when they come back.
static void wait_no_longer(struct job *j, const char *why) {
    uint32_t stage = 1;
    while ((j->waits & 1u << stage) == 0) stage++;
    if (j->error.id == ERR_NONE) error_set(&j->error, ERR_UNAVAILABLE, "stage %u: %s", stage, why);
    j->waits = 0;
    go_on(j);
}

void checkpoints_lost(struct checkpoints *c) {
    for (struct job *j = c->first, *next; j != NULL; j = next) {
        next = j->next;
        if (j->waits != 0) wait_no_longer(j, "the group has lost a member");
    }
}

static void give_up_late(struct checkpoints *c) {
    for (struct job *j = c->first, *next; j != NULL; j = next) {
        next = j->next;
        if (j->waits != 0 && clock_ms() >= j->give_up_at) wait_no_longer(j, "no answer in time");
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
    give_up_late(c);
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
    pthread_mutex_destroy(&c->lock);
    while (c->first != NULL) drop_job(c->first); // those that wait, or were with the engine when it was stopped
    free(c);
}
