// What one sequence says: for every sampled token, the text it releases and the channel that text belongs to. Composed of
// the detokenizer, the channel splitter, the parser of tool calls and the stop strings; the worker calls it for each sampled
// token to make a token record. A record has one channel and one run of text, at most RECORD_TEXT_MAX bytes; text that
// doesn't fit its token's record comes with the next one. Stop strings are looked for in the content only, never in the
// reasoning or in calls. Everything is a function of the tokens pushed: an output is rebuilt on another machine by pushing
// the stream's tokens again. No allocation per token beyond the growth of a few buffers. One owner.
#pragma once
#include "common/base/error.h"
#include "common/base/record.h"
#include "worker/text/tokenizer.h"
#include "worker/text/tool_style.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output;

struct output_options {
    bool keep_special;        // show special tokens in the text
    bool split_reasoning;     // off: everything is content, marks included
    bool starts_in_reasoning; // see channel_starts_inside()
    const char *echo;         // the answer's text begins with it
    size_t echo_len;
    enum tool_style tools; // how calls are written; NONE: they are content
    bool one_tool_call;    // the answer ends with the first
    const char *const *stop;
    uint32_t n_stop;
    bool include_stop;
};

struct output_text {
    enum channel channel;
    const char *text; // valid UTF-8, until the next call; text[text_len] is 0
    size_t text_len;
    bool stopped; // a stop string or the only call is complete: the sequence ends with this token
};

// The tokenizer must outlive it; NULL: tokens are bytes (the mock's). The stop strings are copied. Fails as stop_create
// does.
err_id output_create(const struct tokenizer *t, const struct output_options *options, struct output **out, struct error *e);
void output_destroy(struct output *o); // NULL is fine
// last: no token follows (it is one that ends an answer), so what was held back is decided with it.
void output_push(struct output *o, uint32_t token, bool last, struct output_text *text);
// Calls of tools that were begun so far.
uint32_t output_calls(const struct output *o);
// What was held back, when no token follows: the tail of Done. Call again while it gives text (a second channel, or more
// than RECORD_TEXT_MAX). After a stop string it gives only what its record had no room for.
void output_finish(struct output *o, struct output_text *text);
