// What an answer must be, compiled: a regular expression, any JSON object, or a JSON schema (draft 2020-12), as a network.
//
// How JSON is written: no white space before or after the value, nor in front of ':' and ','. Behind '{', '[' and ',' and in
// front of '}' and ']' one space, or a newline with up to 32 spaces; behind ':' one space; or nothing. Numbers have at most
// 20 digits in front of and behind the point. Integers have no point. Properties come in the order in which the schema names
// them, additional ones after them. A text under "pattern" or "format" has escapes only where JSON needs them.
//
// What a schema may say: type, enum, const (both only beside type), minimum, maximum, exclusiveMinimum, exclusiveMaximum,
// minLength, maxLength, pattern, format, items, prefixItems, minItems, maxItems, properties, required, additionalProperties,
// allOf, anyOf, oneOf (if no value fits two of its alternatives), $ref within the schema, $defs. What else the draft defines
// is refused by name; formats that aren't known, and what the draft doesn't define, are annotations as it says.
#pragma once
#include "common/base/error.h"
#include "worker/grammar/network.h"
#include <stddef.h>

enum grammar_kind { GRAMMAR_REGEX, GRAMMAR_JSON_OBJECT, GRAMMAR_JSON_SCHEMA };
enum { GRAMMAR_STATES_MAX = 400000, GRAMMAR_TEXT_MAX = 1 << 20 };

// text: the expression or the schema. ERR_INVALID_ARGUMENT or ERR_UNSUPPORTED says what is wrong and, of a schema, where.
// Takes up to a second for the worst that is let through. Initialises *net; fini it also after a failure.
err_id grammar_compile(enum grammar_kind kind, const char *text, size_t len, struct network *net, struct error *e);
