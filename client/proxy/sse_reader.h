// Server-sent events as they pass through (https://html.spec.whatwg.org/multipage/server-sent-events.html): cuts the bytes
// of a stream into whole events, so that one that was torn is never handed on, and remembers the last id. Comments between
// events are handed on too. Pure.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"

#include <stdbool.h>

enum { SSE_EVENT_BYTES_MAX = 16 << 20, SSE_ID_SIZE = 512 };

struct sse_reader {
    struct buf pending;   // of an event that isn't whole yet
    size_t line;          // where its last line begins
    char id[SSE_ID_SIZE]; // of the last whole event that had one; "" if none had
    char next_id[SSE_ID_SIZE];
    bool any;    // a whole event has been handed on
    bool done;   // "data: [DONE]" has
    bool failed; // an event with an error has: the stream ends with it
    bool next_done, next_failed;
};

// Appends what is whole by now to out. ERR_TOO_LARGE: an event is larger than SSE_EVENT_BYTES_MAX.
err_id sse_reader_take(struct sse_reader *r, const char *data, size_t len, struct buf *out, struct error *e);
void sse_reader_restart(struct sse_reader *r); // another connection: what isn't whole is forgotten
void sse_reader_fini(struct sse_reader *r);
