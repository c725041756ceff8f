// Strings and their ids, both ways. Built once, then read by any thread. Strings may hold any bytes.
#pragma once
#include "common/base/buf.h"
#include "worker/text/tokenizer.h"

struct vocab {
    struct buf bytes;            // all strings, one behind the other
    uint32_t *offset, *length;   // by id; length VOCAB_NO_STRING: the id has no string
    uint32_t n_ids, cap_ids;     // largest id + 1
    uint32_t *slots;             // open addressing over ids; TOKEN_NONE = empty
    uint32_t n_slots, n_strings; // n_slots is a power of two
};
enum { VOCAB_NO_STRING = 0x7FFFFFFF };

void vocab_fini(struct vocab *v);
// Returns false, changing nothing, when the id has a string already or the string has an id. id < TOKEN_ID_MAX.
bool vocab_add(struct vocab *v, uint32_t id, const char *s, size_t len);
uint32_t vocab_find(const struct vocab *v, const char *s, size_t len); // TOKEN_NONE: none
struct bytes vocab_string(const struct vocab *v, uint32_t id);         // {NULL, 0}: none
