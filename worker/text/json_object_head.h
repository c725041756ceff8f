// The beginning of a tool call written as a JSON object, from as much of it as there is:  {"name": "f", "arguments": {
// Pure.
#pragma once
#include <stddef.h>

enum json_head {
    JSON_HEAD_MORE,  // can't be told yet
    JSON_HEAD_CALL,  // name and the beginning of the arguments' object are here
    JSON_HEAD_WHOLE, // another order or another kind of value, and the object is complete: it ends at `end`
    JSON_HEAD_NONE,  // not an object
};

struct json_object_head {
    size_t name, name_len; // offset and bytes of the name, without quotes
    size_t arguments;      // offset of the arguments' "{"; the key is "arguments" or "parameters"
    size_t end;            // offset behind the object
};

enum json_head json_object_head(const char *s, size_t n, struct json_object_head *out);
