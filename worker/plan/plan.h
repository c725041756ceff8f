// The step plan: everything one forward pass is told, as one relocatable block of bytes (offsets, no pointers, little
// endian). The scheduler builds it, the engine and its followers read it, `shoal-model replay` reads it back from a file.
// Pure: no allocation, no clock, no system calls. The same bytes serve the CPU, a device and the wire.
//
//   head | rows[n_rows] | tokens[n_tokens] | deltas[n_deltas] | copies[n_copies]        (dense, in this order, 8-byte
//   aligned)
//
// What an engine does with a plan, in this order: apply the deltas to the slots' block tables, do the block copies, run the
// rows forward, keep the logits that the rows ask for. A plan without rows is fine: it only changes tables and copies
// blocks.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"

enum { PLAN_MAGIC = 0x4e4c5053, PLAN_ABI = 1, PLAN_SLOTS_MAX = 16384, PLAN_ALIGN = 8 };

#define PLAN_POS_DEVICE   UINT32_MAX // the row starts where the slot ends on the device
#define PLAN_TOKEN_DEVICE UINT32_MAX // the row's one token is the one that the device sampled last for this slot
#define PLAN_NO_ADAPTER   UINT32_MAX

// Which logits a row leaves behind. NONE: a chunk in the middle of a prompt. LAST: after the row's last token, to be
// sampled. ALL: after each of its tokens (prompt logprobs); not sampled. VERIFY: token_off names q_len - 1 drafts, which
// follow the device's last token; up to q_len tokens are accepted. POOL: an embedding instead of logits.
enum plan_logits {
    PLAN_LOGITS_NONE,
    PLAN_LOGITS_LAST,
    PLAN_LOGITS_ALL,
    PLAN_LOGITS_VERIFY,
    PLAN_LOGITS_POOL,
    PLAN_LOGITS_COUNT
};

struct plan_head {
    uint32_t magic, abi;
    uint32_t total_bytes; // of the whole block, a multiple of 8
    uint32_t bucket;      // rows that a device graph was captured for; 0 = no graph
    uint64_t step;        // rises by one with each plan of an engine; names the step in sample() and result()
    uint32_t group_epoch; // of the replica's group of workers; a plan of another epoch is refused
    uint32_t micro_batch;
    uint32_t n_rows, n_tokens, n_deltas, n_copies;
    uint32_t rows_off, tokens_off, deltas_off, copies_off; // bytes from the start of the block
};

// One sequence's part in the step. A slot has at most one row in a plan.
struct plan_row {
    uint32_t slot;
    uint32_t q_len;     // tokens of this row, >= 1
    uint32_t pos;       // position of the first of them in the sequence, or PLAN_POS_DEVICE
    uint32_t token_off; // index into tokens[], or PLAN_TOKEN_DEVICE (then q_len is 1)
    uint32_t adapter;   // or PLAN_NO_ADAPTER
    uint32_t logits;    // enum plan_logits
};

// Block table of a slot: entry `index` (tokens index*block_tokens ...) is now `block`.
struct plan_delta {
    uint32_t slot, index, block;
};

// Copy a whole KV block on every layer (copy-on-write of a shared tail). Done in order, after the deltas, before the rows.
struct plan_copy {
    uint32_t src, dst;
};

_Static_assert(sizeof(struct plan_head) == 64, "the head is 64 bytes on every machine");
_Static_assert(sizeof(struct plan_row) == 24 && sizeof(struct plan_delta) == 12 && sizeof(struct plan_copy) == 8, "packed");

// How much a plan may hold. Bytes for that: plan_bytes_max().
struct plan_caps {
    uint32_t rows, tokens, deltas, copies;
};
size_t plan_bytes_max(const struct plan_caps *caps);
// Block table entries in a plan of so many rows and tokens, for sequences of at most `indexes` blocks. A row of q tokens
// touches at most q + 1 blocks that the engine hasn't been told of. Sequences that start behind a prefix that is in blocks
// already are told of those all at once: of at least PLAN_KNOWN_BLOCKS in a plan, or of one of full length.
enum { PLAN_KNOWN_BLOCKS = 2048 };
static inline uint32_t plan_known_blocks(uint32_t indexes) {
    return indexes > PLAN_KNOWN_BLOCKS ? indexes : PLAN_KNOWN_BLOCKS;
}
static inline uint32_t plan_deltas_max(uint32_t rows, uint32_t tokens, uint32_t indexes) {
    return rows + tokens + plan_known_blocks(indexes);
}

// What a plan must keep to so that it can't hurt the engine that runs it.
struct plan_limits {
    struct plan_caps caps;
    uint32_t batch_tokens; // sum of q_len over the rows
    uint32_t slots, blocks, block_tokens, context, vocab, adapters;
    uint32_t group_epoch;
};

// Builds a plan in a caller's buffer (PLAN_ALIGN-aligned, >= plan_bytes_max(caps) bytes). The adders return false when their
// section is full, and then add nothing.
struct plan_builder {
    uint8_t *bytes;
    struct plan_caps caps;
    struct plan_head head;
};
void plan_builder_init(struct plan_builder *b, void *buffer, const struct plan_caps *caps, uint64_t step);
bool plan_builder_tokens(struct plan_builder *b, const uint32_t *tokens, uint32_t n, uint32_t *token_off);
bool plan_builder_row(struct plan_builder *b, const struct plan_row *row);
bool plan_builder_delta(struct plan_builder *b, uint32_t slot, uint32_t index, uint32_t block);
bool plan_builder_copy(struct plan_builder *b, uint32_t src, uint32_t dst);
// Closes the gaps between the sections, writes the head (bucket, group_epoch and micro_batch as set in b->head) and returns
// the plan's length in bytes. The builder is used up.
size_t plan_builder_finish(struct plan_builder *b);

// Validates an untrusted block: every offset, count, position, token, slot and block against the limits. After ERR_NONE the
// view below is safe to follow. bytes must be PLAN_ALIGN-aligned. ERR_INVALID_ARGUMENT names the row and what is wrong.
err_id plan_check(const void *bytes, size_t len, const struct plan_limits *limits, struct error *e);

// Pointers into a checked plan; they live as long as its bytes.
struct plan_view {
    const struct plan_head *head;
    const struct plan_row *rows;
    const uint32_t *tokens;
    const struct plan_delta *deltas;
    const struct plan_copy *copies;
};
struct plan_view plan_view(const void *bytes);

// True for rows whose logits sample() turns into a token.
static inline bool plan_row_samples(const struct plan_row *row) {
    return row->logits == PLAN_LOGITS_LAST || row->logits == PLAN_LOGITS_VERIFY;
}
