// How models write calls of tools in their text. Each family has marks of its own; a style is a row of a table. Which one a
// model was taught is seen from its chat template, which has to write earlier calls in the same way. Pure.
//
//   hermes        Qwen, Hermes: <tool_call>{"name": …, "arguments": {…}}</tool_call>, once for each call
//   llama3        Llama 3.x: the answer is {"name": …, "parameters": {…}}, perhaps behind <|python_tag|>; more behind ";"
//   deepseek_v3   DeepSeek V3, R1: special tokens, the type "function", the name, and the arguments as a ```json block
//   deepseek_v31  DeepSeek V3.1: special tokens, the name, the arguments
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum tool_style {
    TOOL_STYLE_NONE, // the model writes no calls: all is text
    TOOL_STYLE_HERMES,
    TOOL_STYLE_LLAMA3,
    TOOL_STYLE_DEEPSEEK_V3,
    TOOL_STYLE_DEEPSEEK_V31,
    TOOL_STYLE_COUNT
};

// An answer that only calls, as the model writes it: begin, then for each call  open NAME middle ARGUMENTS close,  gap
// between two calls, end. ARGUMENTS is a JSON object. A grammar of calls is made of these.
struct tool_marks {
    const char *name; // of the style, in the configuration
    const char *begin, *end;
    const char *open, *middle, *close;
    const char *gap;
};

extern const struct tool_marks tool_marks[TOOL_STYLE_COUNT];

// From the source of a chat template. NONE: it writes no calls that are known here.
enum tool_style tool_style_of_template(const char *source, size_t len);
// By name ("hermes"). False: there is no such style.
bool tool_style_by_name(const char *name, enum tool_style *out);

// Tokens that must be seen in the text although they are special: the n-th, or NULL behind the last.
enum { TOOL_SHOWN_MAX = 6 };
const char *tool_style_shown(enum tool_style style, size_t n);

// DeepSeek's.
#define TOOL_CALLS_BEGIN "<｜tool▁calls▁begin｜>"
#define TOOL_CALLS_END   "<｜tool▁calls▁end｜>"
#define TOOL_CALL_BEGIN  "<｜tool▁call▁begin｜>"
#define TOOL_CALL_END    "<｜tool▁call▁end｜>"
#define TOOL_SEP         "<｜tool▁sep｜>"
#define TOOL_PYTHON_TAG  "<|python_tag|>"
#define TOOL_CALL_OPEN   "<tool_call>"
#define TOOL_CALL_CLOSE  "</tool_call>"
