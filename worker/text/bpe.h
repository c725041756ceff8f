// Byte pair encoding (Sennrich et al. 2016) of one piece of text into token ids, with the rules of Hugging Face's BPE model.
// Two kinds: over bytes (byte-level vocabularies; the strings in `units` are raw bytes) and over characters (SentencePiece
// style, perhaps with byte fallback). Immutable after bpe_prepare; a scratch belongs to one call. O(n log n) in the piece.
#pragma once
#include "common/base/error.h"
#include "worker/text/tokenizer.h"
#include "worker/text/vocab.h"

struct bpe_merge {
    uint64_t pair; // left << 32 | right
    uint32_t rank;
    uint32_t merged;
};

struct bpe {
    struct vocab units;
    bool over_bytes;
    bool byte_fallback, fuse_unknown, ignore_merges;
    uint32_t unknown;           // TOKEN_NONE: units that are not known vanish
    char *prefix, *suffix;      // continuing_subword_prefix, end_of_word_suffix; NULL: none
    uint32_t byte_unit[256];    // over_bytes: units of one byte; byte_fallback: "<0xNN>"
    struct bpe_merge *merges;   // open addressing; rank BPE_NO_RANK = empty
    uint32_t n_slots, n_merges; // n_slots is a power of two
    uint8_t *whole;             // by id: a piece that is this unit is encoded as this one id
};
enum { BPE_NO_RANK = 0x7FFFFFFF };

struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_entry *heap;
    size_t cap_symbols, cap_heap;
    struct buf unit;
};

void bpe_fini(struct bpe *b);
// Ranks are given in ascending order; of two merges of the same pair, the later one counts.
void bpe_add_merge(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged);
// Call once when units and merges are complete.
void bpe_prepare(struct bpe *b);

void bpe_scratch_fini(struct bpe_scratch *s);
void bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *piece, size_t len, struct ids *out);
