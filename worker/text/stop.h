// Stop strings in streamed text: text that could be the beginning of a stop string is held back until it is certain. The
// match that ends first wins; of those that end at the same byte, the longest. State is a function of the text pushed. One
// owner. Knuth, Morris and Pratt's automaton per string, so the cost per byte does not depend on what came before.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/limits.h"
#include <stdbool.h>
#include <stdint.h>

struct stop;

// Copies the strings. ERR_INVALID_ARGUMENT (param "stop") for more than STOP_STRINGS_MAX, for an empty one, or for one
// longer than STOP_STRING_BYTES_MAX. n = 0 is fine: nothing is ever held.
err_id stop_create(const char *const *strings, uint32_t n, bool include, struct stop **out, struct error *e);
void stop_destroy(struct stop *s); // NULL is fine
// Takes text, appends what is certain to *out. Returns true when a stop string is complete: *out then has the text before it
// (and the string itself with include), nothing is held, and everything pushed later is dropped.
bool stop_push(struct stop *s, const char *text, size_t len, struct buf *out);
bool stop_matched(const struct stop *s);
// Appends what was held.
void stop_finish(struct stop *s, struct buf *out);
