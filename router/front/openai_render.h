// OpenAI's answers as bytes: streamed chunks (the `data:` events of an SSE stream) and whole JSON bodies, written straight
// into a buffer from token records. Pure. A renderer's only state is its position in the stream, so it can be started at any
// offset; each event is followed by an id that says where it ends. Follows
// https://platform.openai.com/docs/api-reference/chat/streaming and .../completions.
#pragma once
#include "common/base/buf.h"
#include "common/base/message.h"
#include "common/sys/config.h"
#include "router/front/openai_request.h"
#include "router/front/openai_tools.h"
#include "router/front/stream_id.h"

struct openai_answer {
    enum openai_kind kind;
    char id[64]; // "chatcmpl-<request id>"
    char model[NAME_SIZE];
    int64_t created;         // Unix seconds
    const char *fingerprint; // of the deployment, or NULL
    bool logprobs;
    bool include_usage;
    bool token_strings;      // TOKENIZE
    uint32_t max_context;    // TOKENIZE: the model's
    char replica[NAME_SIZE]; // named in the last chunk or the body
    uint32_t attempt;
    uint64_t seed; // the client's, or the router's: with it the answer can be had again
    // Of events; keys NULL: they have none. event.n is the number of choices; the renderer moves event.at.
    const struct stream_keys *keys;
    char tenant[NAME_SIZE];
    struct stream_id event;
    enum config_reasoning reasoning; // the fields that hold it
    struct tool_cursor *tools;       // of each choice: the caller's, zeroed
};

// --- streaming: each writes none, one or more whole events, and moves a->event.at behind what it has written
void openai_render_start(struct buf *out, struct openai_answer *a); // chat: every choice's role; completions: nothing
// Records [at[choice].offset, to) of a choice's log. Neighbouring records of one channel share a chunk unless logprobs are
// wanted.
void openai_render_records(struct buf *out, struct openai_answer *a, uint32_t choice, const struct record_log *log,
                           uint32_t to);
// A choice's end: text held back, the finish reason; of these what at[choice].phase isn't behind.
void openai_render_finish(struct buf *out, struct openai_answer *a, uint32_t choice, const struct msg_done *done);
// The end of all: usage when wanted and not yet rendered, then [DONE].
void openai_render_end(struct buf *out, struct openai_answer *a, const struct usage *usage);
// A stream that cannot go on: an error event; no finish reason and no [DONE] follow.
void openai_render_stream_error(struct buf *out, const struct error *e);

// --- whole bodies
struct openai_choice { // one that has ended
    const struct record_log *log;
    const struct msg_done *done;
};
// Of n choices together: the prompt counts once.
struct usage openai_usage(const struct openai_choice *choices, uint32_t n);
void openai_render_answer(struct buf *out, const struct openai_answer *a, const struct openai_choice *choices, uint32_t n);
// TOKENIZE: {"count", "max_model_len", "tokens"}, with "token_strs" when they are wanted; DETOKENIZE: {"prompt"}. As vLLM's.
void openai_render_tokens(struct buf *out, const struct openai_answer *a, const struct openai_choice *c);
void openai_render_error(struct buf *out, const struct error *e);

// Appends s as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD.
void json_append_string(struct buf *out, const char *s, size_t len);
