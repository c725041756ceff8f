// OpenAI's answers as bytes: streamed chunks (the `data:` events of an SSE stream) and whole JSON bodies, written straight
// into a buffer from token records. Pure. A renderer's only state is its position in the stream, so it can be started at any
// offset; each event is followed by an id that says where it ends. Follows
// https://platform.openai.com/docs/api-reference/chat/streaming and .../completions.
#pragma once
#include "common/base/buf.h"
#include "common/base/message.h"
#include "router/front/openai_request.h"
#include "router/front/stream_id.h"

struct openai_answer {
    enum openai_kind kind;
    char id[64]; // "chatcmpl-<request id>"
    char model[NAME_SIZE];
    int64_t created;         // Unix seconds
    const char *fingerprint; // of the deployment, or NULL
    bool logprobs;
    bool include_usage;
    char replica[NAME_SIZE]; // named in the last chunk or the body
    uint32_t attempt;
    uint64_t seed; // the client's, or the router's: with it the answer can be had again
    // Of events; keys NULL: they have none. The renderer sets id.at.
    const struct stream_keys *keys;
    char tenant[NAME_SIZE];
    struct stream_id event;
};

// --- streaming: each writes none, one or more whole events, and moves a->event.at behind what it has written
void openai_render_start(struct buf *out, struct openai_answer *a); // chat: the role; completions: nothing
// Records [a->event.at.offset, to) of the log. Neighbouring records of one channel share a chunk unless logprobs are wanted.
void openai_render_records(struct buf *out, struct openai_answer *a, const struct record_log *log, uint32_t to);
// Text held back, the finish reason, usage when wanted, then [DONE]: of these what a->event.at.phase isn't behind.
void openai_render_finish(struct buf *out, struct openai_answer *a, const struct msg_done *done);
// A stream that cannot go on: an error event; no finish reason and no [DONE] follow.
void openai_render_stream_error(struct buf *out, const struct error *e);

// --- whole bodies
void openai_render_answer(struct buf *out, const struct openai_answer *a, const struct record_log *log,
                          const struct msg_done *done);
void openai_render_error(struct buf *out, const struct error *e);

// Appends s as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD.
void json_append_string(struct buf *out, const char *s, size_t len);
