// Token records: what a stream is made of. A record_log is the append-only list of one stream's records from offset 0;
// records are packed in one byte arena so that a log costs two allocations, which grow by doubling.
#pragma once
#include "common/base/ids.h"
#include <stddef.h>

enum channel { CHANNEL_CONTENT = 0, CHANNEL_REASONING = 1, CHANNEL_TOOL = 2 };

enum { TOP_TEXT_MAX = 27 };

struct top_logprob {
    uint32_t token;
    float logprob;
    uint8_t text_len;        // 0: not told
    char text[TOP_TEXT_MAX]; // the token's bytes, cut off there; may be part of a UTF-8 sequence
};

// A view: text and top point into the log's arena (or a decoded frame) and live until the log next changes.
struct record {
    uint32_t token;
    uint8_t channel; // enum channel
    bool has_logprob;
    float logprob;
    uint32_t text_len; // bytes of text that this token released; whole UTF-8 sequences; may be 0
    const char *text;
    uint32_t n_top;
    const struct top_logprob *top; // most likely first
};

struct record_log;

struct record_log *record_log_create(void);
void record_log_destroy(struct record_log *log); // NULL is fine
void record_log_append(struct record_log *log, const struct record *r);
uint32_t record_log_count(const struct record_log *log);
size_t record_log_bytes(const struct record_log *log); // memory held: for budgets
// Of the first n records' tokens, n ≤ count: h = 0, then h = hash_mix(h ^ (token + 1)) for each.
uint64_t record_log_hash(const struct record_log *log, uint32_t n);
// Does it begin with n records of this hash? False too when it has fewer.
bool record_log_begins(const struct record_log *log, uint32_t n, uint64_t hash);
// index < count.
struct record record_log_get(const struct record_log *log, uint32_t index);
