// Decoders of tokenizer.json: what text a token stands for. A list of steps is split into what can be said of a token alone,
// done once for every id when the tokenizer is made, and what needs its neighbours (the start of the text, runs of
// byte-fallback tokens, stripping the whole), which the detokenizer does as tokens come. Immutable after decoder_prepare,
// for any thread.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "worker/text/regex.h"
#include "worker/text/vocab.h"

enum decoder_kind {
    DECODER_BYTE_LEVEL,
    DECODER_REPLACE,
    DECODER_STRIP,
    DECODER_METASPACE,
    DECODER_BYTE_FALLBACK,
    DECODER_FUSE
};

struct decoder_step {
    enum decoder_kind kind;
    struct regex *pattern; // REPLACE; owned
    char *content;         // REPLACE; owned
    size_t content_len;
    uint32_t character;               // STRIP: what to strip; METASPACE: what stands for a space
    uint32_t strip_start, strip_stop; // STRIP: at most so many
    bool drops_first;                 // METASPACE: the first token's marks vanish
};

struct decoder {
    struct decoder_step *steps; // up to Fuse; owned
    size_t n_steps;
    size_t fallback; // index of the BYTE_FALLBACK step; n_steps: none
    bool bytes;      // BYTE_LEVEL: tokens are parts of UTF-8 text
    bool spaces;     // no decoder: tokens are joined by spaces
    bool fused;
    bool first_differs;                    // a step treats the first token of a text its own way
    uint32_t strip_character, strip_start; // of the whole text
    struct buf text;                       // what each id stands for
    uint32_t *offset, *length;             // by id
    int16_t *byte;                         // by id: the byte of a byte-fallback token, or -1
    uint32_t n_ids;
};

void decoder_fini(struct decoder *d);
// Takes over what the step owns. ERR_MODEL_FILES when this step can't follow the earlier ones in a stream.
err_id decoder_add(struct decoder *d, struct decoder_step *step, struct error *e);
// names: every id's string as the decoder is to see it.
void decoder_prepare(struct decoder *d, const struct bytes *names, uint32_t n_ids);

// Runs the steps [from, to) on one token. s: valid UTF-8; appends to *out (bytes, with BYTE_LEVEL).
void decoder_run(const struct decoder *d, size_t from, size_t to, bool first, const char *s, size_t len, struct buf *out);
