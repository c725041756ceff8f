// Finds calls of tools in a model's content as it streams. What is a call goes to CHANNEL_TOOL in one form for all styles,
//   TOOL_CALL_START name TOOL_CALL_ARGUMENTS arguments
// for each call, one behind the other: these two characters occur nowhere else in that channel. The arguments come as they
// are written, usually a JSON object; it is for the reader of an answer to check them. Everything else is content. What
// looked like a call and is none stays content, marks included; white space around calls is dropped. Text that could be part
// of a mark is held. State is a function of the text pushed, however it was cut into pieces. One owner.
#pragma once
#include "worker/text/text_runs.h"
#include "worker/text/tool_style.h"
#include <stdint.h>

enum { TOOL_CALL_START = 0x1e, TOOL_CALL_ARGUMENTS = 0x1f };

struct tool_parser {
    enum tool_style style;
    int state;
    struct buf held;
    struct buf opened;   // what opened the held text: comes back when it is no call
    bool bare;           // nothing but a brace opened it
    bool begun;          // something that isn't white space was content
    uint32_t n_calls;    // begun
    uint32_t n_complete; // with their arguments
    // Where in a JSON value the text is.
    uint32_t depth;
    bool in_string, escaped;
    bool no_arguments; // so far
    uint32_t limit;
};

// TOOL_STYLE_NONE: everything is content. limit: with so many calls the answer is complete, and what follows is dropped; 0:
// as many as there are.
void tool_parser_init(struct tool_parser *p, enum tool_style style, uint32_t limit);
bool tool_parser_full(const struct tool_parser *p);
void tool_parser_fini(struct tool_parser *p);
void tool_parser_push(struct tool_parser *p, const char *text, size_t len, struct text_runs *out);
void tool_parser_finish(struct tool_parser *p, struct text_runs *out);
