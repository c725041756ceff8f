// Pre-tokenizers of tokenizer.json: cut a normalised text into the pieces that BPE works on, never across them. A list of
// steps, each cutting the pieces of the one before; some also rewrite them (ByteLevel, Metaspace). Immutable, for any
// thread; the state of one call is a pretokenize_scratch.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "worker/text/regex.h"

enum split_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_MERGED_PREVIOUS, SPLIT_MERGED_NEXT, SPLIT_CONTIGUOUS };

enum pretokenizer_kind {
    PRETOKENIZER_SPLIT,            // by a pattern
    PRETOKENIZER_DIGITS,           // N* characters
    PRETOKENIZER_PUNCTUATION,      // P* characters
    PRETOKENIZER_WHITESPACE,       // runs of word characters, and of others that are not white space
    PRETOKENIZER_WHITESPACE_SPLIT, // at white space
    PRETOKENIZER_DELIMITER,        // at one character
    PRETOKENIZER_METASPACE,
    PRETOKENIZER_BYTE_LEVEL,
};

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct pretokenizer_step {
    enum pretokenizer_kind kind;
    enum split_behavior behavior;
    bool invert;           // SPLIT: the pattern matches what to keep
    struct regex *pattern; // SPLIT; BYTE_LEVEL with its own pattern; owned
    uint32_t character;    // DELIMITER; METASPACE: what replaces a space
    bool split;            // METASPACE
    enum prepend_scheme prepend;
    bool add_prefix_space; // BYTE_LEVEL
    bool keep_bytes;       // BYTE_LEVEL as the last step: leave the bytes, the vocabulary is over bytes
};

struct pretokenizer {
    struct pretokenizer_step *steps; // owned
    size_t n_steps;
};

struct piece {
    uint32_t start, end; // bytes of pretokenize_scratch.text
};

struct pretokenize_scratch {
    const char *text;     // the input, or texts[] when a step rewrote it
    struct piece *pieces; // the result, none empty
    size_t n_pieces;
    struct buf texts[2];
    struct piece *lists[2];
    size_t caps[2];
};

void pretokenizer_fini(struct pretokenizer *p);
void pretokenizer_add(struct pretokenizer *p, const struct pretokenizer_step *step); // takes over what the step owns
void pretokenize_scratch_fini(struct pretokenize_scratch *s);

struct pretokenize_input { // valid UTF-8, len < 4 GiB
    const char *text;
    size_t len;
    bool at_start; // of the whole text that is being encoded
    bool has_new;  // unicode_has_new(), or true when not known
};
// The result is in s->text, s->pieces, s->n_pieces until the next call. ERR_INVALID_ARGUMENT at a pattern's match limit.
err_id pretokenize(const struct pretokenizer *p, const struct pretokenize_input *input, struct regex_scratch *scratch,
                   struct pretokenize_scratch *s, struct error *e);
