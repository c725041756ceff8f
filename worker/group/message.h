// The messages between the members of a replica (proto/group.proto) as plain structs, and their frames. Any thread.
//
// A received message's life: group_decode → handed from thread to thread → group_msg_free. Its pointers live as long as it.
// What a peer sent is checked in full: sizes, counts, names, enum values. A plan is checked by the engine that gets it.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "worker/engine/types.h"
#include "worker/group/part.h"

enum { GROUP_PROTOCOL = 1, GROUP_FRAME_MAX = 64 << 20, GROUP_STAGES_MAX = 16, GROUP_BUILD_SIZE = 32 };
_Static_assert((int)GROUP_STAGES_MAX <= (int)MEMBERS_MAX, "a Hello lists them all");

enum group_kind {
    GROUP_NONE,
    GROUP_JOIN,
    GROUP_WELCOME,
    GROUP_REFUSED,
    GROUP_READY,
    GROUP_BEAT,
    GROUP_SLOT_OPEN,
    GROUP_SLOT_CLOSE,
    GROUP_PLAN,
    GROUP_HIDDEN,
    GROUP_TOKENS,
    GROUP_RESULT,
    GROUP_SAVE, // a part
    GROUP_LOAD, // a part
    GROUP_PART_DONE,
    GROUP_NOTICE,
    GROUP_LEAVE,
};
const char *group_kind_name(enum group_kind kind);

// What must be equal, or fit together, before anyone loads.
struct group_identity {
    char group[NAME_SIZE];
    uint32_t stage, stages;
    char build[GROUP_BUILD_SIZE];
    uint32_t plan_abi;
    char weights[ENGINE_FINGERPRINT_MAX];
    uint32_t layer_first, layer_end, layers;
    uint32_t hidden, vocab;
};

struct group_join {
    struct group_identity who;
    incarnation_t incarnation;
    char name[NAME_SIZE];
    uint32_t pid;
    char address[ADDRESS_SIZE];
    uint32_t epoch;
};

struct group_limits { // of every member's engine
    uint32_t slots, rows, batch_tokens, context, block_tokens, blocks;
};

struct group_welcome {
    uint32_t epoch;
    struct group_limits limits;
    char next[ADDRESS_SIZE];
    uint32_t beat_ms, dead_ms;
};

struct group_ready {
    uint32_t epoch;
    char fingerprint[ENGINE_FINGERPRINT_MAX];
    uint64_t kv_bytes_per_token;
    char store[GROUP_STORE_SIZE];
};

struct group_beat {
    uint32_t epoch;
    float progress;
    uint64_t busy_us;
    uint32_t loads;
    uint64_t weights_bytes;
};

struct group_result_row {
    uint32_t n_tokens;
    bool numeric_error;
    struct engine_token token;
};

struct group_msg {
    enum group_kind kind;
    union {
        struct group_join join;
        struct group_welcome welcome;
        struct {
            char text[ERROR_TEXT_MAX];
            bool final;
        } refused;
        struct group_ready ready;
        struct group_beat beat;
        struct {
            uint32_t epoch, slot;
            struct engine_slot_params params;
        } slot_open;
        struct {
            uint32_t epoch, slot;
        } slot_close;
        struct {
            const void *bytes; // PLAN_ALIGN-aligned
            size_t len;
        } plan;
        struct {
            uint32_t epoch;
            uint64_t step;
            const float *states;
            size_t floats;
        } hidden;
        struct {
            uint32_t epoch;
            uint64_t step;
            const uint32_t *tokens;
            uint32_t n;
        } tokens;
        struct {
            uint32_t epoch;
            uint64_t step;
            const struct group_result_row *rows;
            uint32_t n;
        } result;
        struct group_part part; // SAVE, LOAD
        struct group_part_done part_done;
        struct {
            uint32_t epoch, deadline_ms; // LEAVE has no deadline
        } notice, leave;
    };
    void *owned[2]; // of a decoded one
};

// Appends one frame.
void group_encode(const struct group_msg *m, struct buf *out);
// ERR_PROTOCOL says what is wrong.
err_id group_decode(const void *frame, size_t len, struct group_msg **out, struct error *e);
void group_msg_free(struct group_msg *m);
