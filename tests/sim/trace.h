// The last things that happened, for reading after a failure. Costs nothing unless switched on.
#pragma once
#include "tests/sim/options.h"
#include "common/base/message.h"
#include <stdio.h>

struct trace_entry {
    us_t at;
    char text[168];
    struct stream_key key; // that it is about; all zero: none
};

struct trace {
    struct trace_entry *ring; // owned; NULL: off
    uint64_t count;
};

enum { TRACE_ENTRIES = 1 << 18, TRACE_SHOWN = 150 };

void trace_init(struct trace *t, bool on);
void trace_free(struct trace *t);
static inline bool trace_on(const struct trace *t) { return t->ring != NULL; }
void trace_note(struct trace *t, us_t at, const struct stream_key *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void trace_message(struct trace *t, us_t at, const char *from, const char *to, link_id link, const struct msg *m);
// The last events, then all that are still known of one stream (NULL: none).
void trace_print(const struct trace *t, const struct stream_key *key, FILE *out);
