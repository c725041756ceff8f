// One job at a time. Out: asked for by the core's hook → exported by the engine → written on the pool → the core is told.
// In: listed on the pool → each read and checked on the pool → offered to the core → its hook names the slot → imported.
#include "worker/main/prefix_keeper.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PREFIXES_MAX = 256, // read at a start
    SAVE_MS = 60000,    // kept prefixes are looked through for what has not been written
    START_MS = 10000,   // a start waits no longer than this for what is in the store
    END_MS = 5000,      // nor an end for what is not
};

enum phase { IDLE, LISTING, READING, OFFERED, TO_EXPORT, EXPORTING, WRITING, TO_IMPORT, IMPORTING };

struct prefix_keeper {
    struct prefix_keeper_options options;
    struct engine_thread *engine;
    char fingerprint[FINGERPRINT_SIZE];
    struct state_part shard;
    bool closed, ready, saves; // saves: there may be something to write
    ms_t save_at, start_until, end_until;
    enum phase phase;
    uint64_t ticket;
    uint32_t slot;
    char handle[CHECKPOINT_HANDLE_SIZE];
    struct sequence_state state; // out: tokens is `tokens`; in: they lie in `manifest`
    uint32_t *tokens;
    uint8_t *bytes, *manifest;
    uint64_t written;
    struct error error;
    uv_work_t work;
    char handles[PREFIXES_MAX][CHECKPOINT_HANDLE_SIZE]; // to read
    size_t n_handles, next, n_read;
};

static const struct stream_key prefix_key = {.request = {.bytes = "shoal's prefix"}};

struct prefix_keeper *prefix_keeper_create(const struct prefix_keeper_options *options) {
    struct prefix_keeper *k = xcalloc(1, sizeof *k);
    k->options = *options;
    k->work.data = k;
    k->end_until = MS_NEVER;
    return k;
}

static void drop_job(struct prefix_keeper *k) {
    free(k->tokens);
    free(k->bytes);
    free(k->manifest);
    k->tokens = NULL;
    k->bytes = k->manifest = NULL;
    k->error = (struct error){0};
    k->phase = IDLE;
}

void prefix_keeper_close(struct prefix_keeper *k) {
    k->closed = true;
    k->engine = NULL;
}

void prefix_keeper_destroy(struct prefix_keeper **handle) {
    struct prefix_keeper *k = *handle;
    *handle = NULL;
    if (k == NULL) return;
    drop_job(k);
    free(k);
}

static void on_pool(struct prefix_keeper *k, enum phase phase, uv_work_cb job, uv_after_work_cb after) {
    k->phase = phase;
    CHECK(uv_queue_work(k->options.loop, &k->work, job, after) == 0);
}

// ---- out ----

void prefix_keeper_write(struct prefix_keeper *k, uint64_t ticket, const struct checkpoint_request *r) {
    CHECK(k->phase == IDLE);
    k->phase = TO_EXPORT;
    k->ticket = ticket;
    k->slot = r->slot;
    k->tokens = xmalloc(r->n_tokens * sizeof *k->tokens);
    memcpy(k->tokens, r->tokens, r->n_tokens * sizeof *k->tokens);
    k->state = (struct sequence_state){.key = prefix_key, .n_tokens = r->n_computed + 1, .n_prompt = r->n_computed + 1};
    k->state.n_computed = r->n_computed;
    k->state.tokens = k->tokens;
    k->state.n_parts = 1;
    k->state.parts[0] = k->shard;
    snprintf(k->state.fingerprint, sizeof k->state.fingerprint, "%s", k->fingerprint);
    uint64_t hash =
        hash_bytes(k->tokens, r->n_computed * sizeof *k->tokens, hash_bytes(k->fingerprint, strlen(k->fingerprint), 0));
    snprintf(k->handle, sizeof k->handle, PREFIX_HANDLE "%016" PRIx64 "%08x", hash, (unsigned)(hash_mix(hash) >> 32));
}

static void finish_write(struct prefix_keeper *k) {
    bool ok = k->error.id == ERR_NONE;
    if (ok)
        log_info("prefix_written", "handle=%s tokens=%u bytes=%" PRIu64, k->handle, k->state.n_computed, k->written);
    else
        log_warn("prefix_not_written", "tokens=%u reason=%s", k->state.n_computed, error_text(&k->error));
    uint64_t written = k->written, ticket = k->ticket;
    drop_job(k);
    if (!k->closed) worker_core_checkpointed(k->options.core, ticket, ok ? k->handle : NULL, written, clock_ms());
}

static void write_on_pool(uv_work_t *work) {
    struct prefix_keeper *k = work->data;
    struct checkpoint_store *store = k->options.store;
    if (checkpoint_write_part(store, k->handle, &k->state, 0, k->bytes, &k->error) == ERR_NONE)
        checkpoint_write_manifest(store, k->handle, &k->state, &k->written, &k->error);
}

static void on_written(uv_work_t *work, int status) {
    struct prefix_keeper *k = work->data;
    if (status != 0) error_set(&k->error, ERR_CANCELLED, "the process is ending");
    finish_write(k);
}

static void begin_export(struct prefix_keeper *k) {
    if (!worker_core_wants(k->options.core, k->ticket))
        error_set(&k->error, ERR_CANCELLED, "it is not there any more");
    else if ((k->bytes = malloc((size_t)state_part_bytes(&k->state, 0))) == NULL)
        error_set(&k->error, ERR_SYSTEM, "no memory for it");
    if (k->error.id != ERR_NONE) {
        finish_write(k);
        return;
    }
    k->phase = EXPORTING;
    engine_thread_export(k->engine, &(struct engine_move){k->ticket, k->slot, k->state.n_computed, k->bytes, 0});
}

// ---- in ----

static void read_next(struct prefix_keeper *k);

static void say_ready(struct prefix_keeper *k) {
    if (k->ready) return;
    k->ready = true;
    k->save_at = clock_ms() + SAVE_MS;
    if (k->n_handles > 0) log_info("prefixes_restored", "read=%zu of=%zu", k->n_read, k->n_handles);
    if (!k->closed) k->options.ready(k->options.ctx);
}

static void list_on_pool(uv_work_t *work) {
    struct prefix_keeper *k = work->data;
    k->n_handles = checkpoint_list(k->options.store, PREFIX_HANDLE, k->handles, PREFIXES_MAX);
}

static void on_listed(uv_work_t *work, int status) {
    struct prefix_keeper *k = work->data;
    k->phase = IDLE;
    read_next(k);
}

static err_id check_state(const struct prefix_keeper *k, struct error *e) {
    const struct sequence_state *s = &k->state;
    struct state_expectation want = {
        .fingerprint = k->fingerprint, .key = prefix_key, .tokens = s->tokens, .n_tokens = s->n_tokens, .n_parts = 1};
    uint32_t usable;
    want.parts = &k->shard;
    TRY(state_matches(s, &want, &usable, e));
    return usable == s->n_computed ? ERR_NONE : error_set(e, ERR_PROTOCOL, "it holds less than it says");
}

static void read_on_pool(uv_work_t *work) {
    struct prefix_keeper *k = work->data;
    struct checkpoint_store *store = k->options.store;
    if (checkpoint_read_manifest(store, k->handle, &k->manifest, &k->state, &k->error) == ERR_NONE &&
        check_state(k, &k->error) == ERR_NONE)
        checkpoint_read_part(store, k->handle, &k->state, 0, &k->bytes, &k->error);
}

static void finish_read(struct prefix_keeper *k) {
    if (k->error.id == ERR_NONE)
        k->n_read++;
    else
        log_warn("prefix_unusable", "handle=%s reason=%s", k->handle, error_text(&k->error));
    drop_job(k);
}

static void on_read(uv_work_t *work, int status) {
    struct prefix_keeper *k = work->data;
    if (status != 0 || k->closed) error_set(&k->error, ERR_CANCELLED, "the process is ending");
    k->phase = OFFERED; // the hook may come from within
    bool brought = k->error.id == ERR_NONE &&
                   worker_core_bring_prefix(k->options.core, k->state.tokens, k->state.n_computed, clock_ms());
    if (brought) return;
    if (k->error.id == ERR_NONE)
        error_set(&k->error, ERR_OVERLOADED, "it is part of another one, or there is no room for it");
    finish_read(k);
    read_next(k);
}

static void read_next(struct prefix_keeper *k) {
    if (k->closed || k->next == k->n_handles || clock_ms() >= k->start_until) {
        say_ready(k);
        return;
    }
    memcpy(k->handle, k->handles[k->next++], sizeof k->handle);
    on_pool(k, READING, read_on_pool, on_read);
}

void prefix_keeper_restore(struct prefix_keeper *k, uint64_t ticket, uint32_t slot, uint32_t n) {
    CHECK(k->phase == OFFERED && n == k->state.n_computed);
    k->phase = TO_IMPORT;
    k->ticket = ticket;
    k->slot = slot;
}

static void finish_import(struct prefix_keeper *k) {
    bool ok = k->error.id == ERR_NONE;
    finish_read(k);
    worker_core_restored(k->options.core, k->ticket, ok, clock_ms());
}

static void begin_import(struct prefix_keeper *k) {
    if (!worker_core_wants(k->options.core, k->ticket)) {
        error_set(&k->error, ERR_CANCELLED, "its blocks were needed");
        finish_import(k);
        return;
    }
    k->phase = IMPORTING;
    struct engine_move move = {k->ticket, k->slot, k->state.n_computed, k->bytes + STATE_PART_HEAD_BYTES, 0};
    move.hash = k->state.parts[0].hash;
    engine_thread_import(k->engine, &move);
}

// ---- both ----

void prefix_keeper_moved(struct prefix_keeper *k, const struct engine_event *event) {
    CHECK(event->ticket == k->ticket && (k->phase == EXPORTING || k->phase == IMPORTING));
    if (event->error.id != ERR_NONE) k->error = event->error;
    if (k->phase == IMPORTING) {
        finish_import(k);
    } else if (k->error.id != ERR_NONE) {
        finish_write(k);
    } else {
        k->state.parts[0].hash = event->hash;
        on_pool(k, WRITING, write_on_pool, on_written);
    }
}

void prefix_keeper_serve(struct prefix_keeper *k, struct engine_thread *engine, const char *fingerprint) {
    const struct engine_info *info = engine_thread_info(engine);
    k->engine = engine;
    snprintf(k->fingerprint, sizeof k->fingerprint, "%s", fingerprint);
    k->shard = (struct state_part){.layer_first = info->layer_first, .layer_end = info->layer_end};
    k->shard.bytes_per_token = info->kv_bytes_per_token;
    k->start_until = clock_ms() + START_MS;
    on_pool(k, LISTING, list_on_pool, on_listed);
}

// A save begins by the core's calling prefix_keeper_write().
static void save_when_due(struct prefix_keeper *k) {
    if (k->phase != IDLE || !k->ready || worker_core_upkeep_busy(k->options.core)) return;
    ms_t now = clock_ms();
    if (now < k->save_at) return;
    k->saves = worker_core_save_prefix(k->options.core, now);
    if (!k->saves) k->save_at = now + SAVE_MS;
}

void prefix_keeper_turn(struct prefix_keeper *k) {
    if (k->closed || k->engine == NULL) return;
    if (k->phase == TO_EXPORT) begin_export(k);
    if (k->phase == TO_IMPORT) begin_import(k);
    bool brings = k->phase == IDLE && !k->ready && !worker_core_upkeep_busy(k->options.core);
    if (brings) read_next(k);
    if (!k->ready && k->phase == OFFERED && clock_ms() >= k->start_until) say_ready(k);
    save_when_due(k);
}

bool prefix_keeper_may_end(struct prefix_keeper *k) {
    ms_t now = clock_ms();
    if (!k->ready) return true;
    if (k->end_until == MS_NEVER) {
        k->end_until = now + END_MS;
        k->save_at = now;
        k->saves = true;
        save_when_due(k);
    }
    bool busy = k->phase != IDLE || worker_core_upkeep_busy(k->options.core) || k->saves;
    return !busy || now >= k->end_until;
}
