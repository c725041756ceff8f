// Calls of tools in OpenAI's form, from the text of CHANNEL_TOOL: for each call the start byte, the name, the arguments
// byte, the arguments (proto/README.md). A cursor knows where in that text a choice's rendering stands; it is brought to any
// record by reading the ones before it, so a stream can be rendered from any offset. A call's id is made of the answer's id,
// the choice and the call's number: the same whoever renders it. Internal to this room.
#pragma once
#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/message.h"

#include <stdbool.h>

struct tool_cursor {
    uint32_t offset;  // records read
    uint32_t n_calls; // begun
    bool in_name;
    uint32_t name_len;
    char name[TOOL_NAME_BYTES_MAX + 1];
};

// Reads the tool text of records up to `to`.
void tool_cursor_seek(struct tool_cursor *c, const struct record_log *log, uint32_t to);
// Appends the elements of "tool_calls" that this text adds, with commas between them: each call's number once, with id, type
// and name where it begins. Moves the cursor over the text; c->offset is the caller's to move. False: nothing was appended.
bool tool_deltas(struct tool_cursor *c, const char *answer_id, uint32_t choice, const char *text, size_t len,
                 struct buf *out);
// Appends a whole answer's calls, without "index". text: all of a choice's tool text. Returns how many.
uint32_t tool_calls(const char *answer_id, uint32_t choice, const char *text, size_t len, struct buf *out);
