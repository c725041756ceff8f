// The checkpoint store: a directory in which workers leave sequences for each other, shared by all that can see its files. A
// checkpoint is a manifest and one file per part; the manifest is written last, so what has one is complete. Each file is
// written under a temporary name, synced, renamed, and its directory synced: after a crash a file is whole or not there.
// What is torn, missing or changed all the same is found when it is read.
//
//   DIR/store-id                id of the store, drawn by who came first: the same for all that see it
//   DIR/<handle>.part<stage>    worker/plan/sequence_state.h
//   DIR/<handle>.manifest
//
// A file is leased for lease_ms from when it was written and is not deleted before, except by who has used it up. After that
// it goes when it is older than age_max_ms, or when room is needed (the oldest first).
//
// All calls block on the disk: call them on a pool thread. They may be called from several threads at once.
#pragma once
#include "common/base/error.h"
#include "worker/plan/sequence_state.h"

enum { CHECKPOINT_HANDLE_SIZE = 33, CHECKPOINT_DIR_SIZE = 512, CHECKPOINT_MANIFEST_BYTES_MAX = 80 << 20 };

struct checkpoint_store;

// Where a test may let the file system fail: called before each step; not 0: the errno that it fails with.
enum checkpoint_step { STEP_OPEN, STEP_WRITE, STEP_SYNC, STEP_RENAME, STEP_SYNC_DIR, STEP_READ, STEP_COUNT };

struct checkpoint_store_options {
    const char *dir;      // made if it isn't there
    uint64_t quota_bytes; // 0: none
    uint64_t age_max_ms;  // 0: none
    uint32_t lease_ms;
    int (*fault)(void *ctx, enum checkpoint_step step); // NULL
    void *ctx;
};

err_id checkpoint_store_open(const struct checkpoint_store_options *options, struct checkpoint_store **out, struct error *e);
void checkpoint_store_close(struct checkpoint_store **store);
const char *checkpoint_store_id(const struct checkpoint_store *s); // 16 hex digits

void checkpoint_draw_handle(char out[CHECKPOINT_HANDLE_SIZE]); // 32 random hex digits
bool checkpoint_handle_valid(const char *handle);              // anything else is never made a path

// Writes one part; its entry in state->parts must be whole. entries: state_part_bytes() of them. On failure nothing is left.
err_id checkpoint_write_part(struct checkpoint_store *s, const char *handle, const struct sequence_state *state,
                             uint32_t part, const void *entries, struct error *e);
// Call when all parts are written. *bytes: of all the checkpoint's files.
err_id checkpoint_write_manifest(struct checkpoint_store *s, const char *handle, const struct sequence_state *state,
                                 uint64_t *bytes, struct error *e);

// state->tokens points into *bytes, which the caller frees.
err_id checkpoint_read_manifest(struct checkpoint_store *s, const char *handle, uint8_t **bytes,
                                struct sequence_state *state, struct error *e);
// Reads and checks a part: *bytes (the caller's to free) holds it, its entries begin at STATE_PART_HEAD_BYTES.
err_id checkpoint_read_part(struct checkpoint_store *s, const char *handle, const struct sequence_state *state,
                            uint32_t part, uint8_t **bytes, struct error *e);
void checkpoint_delete(struct checkpoint_store *s, const char *handle); // all its files; missing ones are fine

// Handles of complete checkpoints that begin with `starts`, the newest first; returns how many. A directory that can't be
// listed has none.
size_t checkpoint_list(struct checkpoint_store *s, const char *starts, char (*handles)[CHECKPOINT_HANDLE_SIZE], size_t max);

struct checkpoint_usage {
    uint64_t bytes;   // kept now
    uint32_t files;   // kept now
    uint32_t expired; // deleted by this call
};
// Deletes what has expired by age, then the oldest until `room` more bytes fit under the quota. Leased files stay.
// ERR_OVERLOADED: there is no room.
err_id checkpoint_expire(struct checkpoint_store *s, uint64_t room, struct checkpoint_usage *usage, struct error *e);
