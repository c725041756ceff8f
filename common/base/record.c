#include "common/base/record.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <stdlib.h>

// One entry per record; its text lies at `text` in the arena, its top logprobs at `top` in the tops array.
struct entry {
    uint32_t token;
    float logprob;
    uint32_t text_len;
    uint8_t channel;
    uint8_t n_top;
    bool has_logprob;
    size_t text;
    size_t top;
};

struct record_log {
    struct entry *entries;
    char *text;
    struct top_logprob *tops;
    uint32_t count, entries_cap;
    size_t text_len, text_cap;
    size_t tops_len, tops_cap;
};

struct record_log *record_log_create(void) {
    return xcalloc(1, sizeof(struct record_log));
}

void record_log_destroy(struct record_log *log) {
    if (log == NULL) return;
    free(log->entries);
    free(log->text);
    free(log->tops);
    free(log);
}

static size_t grown(size_t cap, size_t need) {
    size_t next = cap ? cap : 32;
    while (next < need) next *= 2;
    return next;
}

void record_log_append(struct record_log *log, const struct record *r) {
    CHECK(r->n_top <= UINT8_MAX);
    if (log->count == log->entries_cap) {
        log->entries_cap = (uint32_t)grown(log->entries_cap, log->count + 1);
        log->entries = xrealloc(log->entries, log->entries_cap * sizeof *log->entries);
    }
    if (log->text_len + r->text_len > log->text_cap) {
        log->text_cap = grown(log->text_cap, log->text_len + r->text_len);
        log->text = xrealloc(log->text, log->text_cap);
    }
    if (log->tops_len + r->n_top > log->tops_cap) {
        log->tops_cap = grown(log->tops_cap, log->tops_len + r->n_top);
        log->tops = xrealloc(log->tops, log->tops_cap * sizeof *log->tops);
    }
    log->entries[log->count++] = (struct entry){
        .token = r->token,
        .logprob = r->logprob,
        .text_len = r->text_len,
        .channel = r->channel,
        .n_top = (uint8_t)r->n_top,
        .has_logprob = r->has_logprob,
        .text = log->text_len,
        .top = log->tops_len,
    };
    if (r->text_len) memcpy(log->text + log->text_len, r->text, r->text_len);
    if (r->n_top) memcpy(log->tops + log->tops_len, r->top, r->n_top * sizeof *r->top);
    log->text_len += r->text_len;
    log->tops_len += r->n_top;
}

uint32_t record_log_count(const struct record_log *log) { return log->count; }

size_t record_log_bytes(const struct record_log *log) {
    return sizeof *log + log->entries_cap * sizeof *log->entries + log->text_cap + log->tops_cap * sizeof *log->tops;
}

uint64_t record_log_hash(const struct record_log *log, uint32_t n) {
    CHECK(n <= log->count);
    uint64_t h = 0;
    for (uint32_t i = 0; i < n; i++) h = hash_mix(h ^ ((uint64_t)log->entries[i].token + 1));
    return h;
}

bool record_log_begins(const struct record_log *log, uint32_t n, uint64_t hash) {
    return n == 0 || (n <= log->count && record_log_hash(log, n) == hash);
}

struct record record_log_get(const struct record_log *log, uint32_t index) {
    CHECK(index < log->count);
    const struct entry *e = &log->entries[index];
    return (struct record){
        .token = e->token,
        .channel = e->channel,
        .has_logprob = e->has_logprob,
        .logprob = e->logprob,
        .text_len = e->text_len,
        .text = e->text_len ? log->text + e->text : "",
        .n_top = e->n_top,
        .top = e->n_top ? log->tops + e->top : NULL,
    };
}
