// Token ids to text, one token at a time. A token releases the bytes that have become certain with it: whole UTF-8 sequences
// only; what is incomplete is held and comes out with a later token or at the end. Pushing ids and finishing gives exactly
// what tokenizer_decode gives for the same ids, whatever the point where it is finished. State is a function of the ids
// pushed: to rebuild it, push them again. No allocation per token beyond the growth of the caller's buffer. One owner.
#pragma once
#include "common/base/buf.h"
#include "worker/text/tokenizer.h"

enum { DETOKENIZER_SHOWN_MAX = 8 };

struct detokenizer {
    const struct tokenizer *tokenizer;
    bool skip_special;                     // special tokens have no text
    uint32_t shown[DETOKENIZER_SHOWN_MAX]; // except these
    uint32_t n_shown;
    bool started;        // a token with text has been pushed
    uint32_t strip_left; // characters that may still be stripped from the start of the text
    struct buf run;      // a run of byte-fallback tokens, or the head of a UTF-8 sequence
    struct buf scratch;
};

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_special);
void detokenizer_fini(struct detokenizer *d);
// Shows this token although it is special (the marks around reasoning). At most DETOKENIZER_SHOWN_MAX.
void detokenizer_show(struct detokenizer *d, uint32_t id);
// Appends the text that token releases to *out.
void detokenizer_push(struct detokenizer *d, uint32_t token, struct buf *out);
// Appends what was held, with U+FFFD for incomplete sequences. Only init or fini may follow.
void detokenizer_finish(struct detokenizer *d, struct buf *out);
