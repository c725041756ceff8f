// Normalizers of tokenizer.json: rewrite a text before it is split (NFC and its kin, Lowercase, Strip, StripAccents,
// Replace, Prepend, Nmt, ByteLevel). A list of steps, immutable, for any thread. Bert's and Precompiled are not BPE's and
// are refused when read.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "worker/text/regex.h"

enum normalizer_kind {
    NORMALIZER_NFC,
    NORMALIZER_NFD,
    NORMALIZER_NFKC,
    NORMALIZER_NFKD,
    NORMALIZER_LOWERCASE,
    NORMALIZER_STRIP,
    NORMALIZER_STRIP_ACCENTS,
    NORMALIZER_REPLACE,
    NORMALIZER_PREPEND,
    NORMALIZER_NMT,
    NORMALIZER_BYTE_LEVEL,
};

struct normalizer_step {
    enum normalizer_kind kind;
    bool strip_left, strip_right; // STRIP
    struct regex *pattern;        // REPLACE; owned
    char *content;                // REPLACE, PREPEND; owned
    size_t content_len;
};

struct normalizer {
    struct normalizer_step *steps; // owned
    size_t n_steps;
};

void normalizer_fini(struct normalizer *n);
// Takes over what the step owns.
void normalizer_add(struct normalizer *n, const struct normalizer_step *step);
// Puts the normalised form of valid UTF-8 into *out, replacing what it held; spare is a second buffer for intermediate
// forms. n_steps may be 0. ERR_INVALID_ARGUMENT when a pattern exceeds its match limit.
err_id normalizer_run(const struct normalizer *n, struct regex_scratch *scratch, const char *text, size_t len,
                      struct buf *out, struct buf *spare, struct error *e);
// Replaces every match of pattern in text; appends to *out. Shared with the decoder of the same name.
err_id normalizer_replace(const struct regex *pattern, struct regex_scratch *scratch, const char *text, size_t len,
                          const char *content, size_t content_len, struct buf *out, struct error *e);
