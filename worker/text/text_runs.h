// Text on its way into records: runs of bytes, each of one channel, in the order in which they were released. Neighbours of
// one channel are one run. One owner.
#pragma once
#include "common/base/buf.h"
#include "common/base/record.h"

struct text_run {
    enum channel channel;
    size_t len; // bytes, never 0
};

struct text_runs {
    struct buf bytes; // of all runs, one behind the other
    struct text_run *runs;
    size_t n, capacity;
};

void text_runs_fini(struct text_runs *r);
void text_runs_reset(struct text_runs *r);
void text_runs_add(struct text_runs *r, enum channel channel, const char *text, size_t len);
// Takes n bytes, at most the first run's, from the front.
void text_runs_consume(struct text_runs *r, size_t n);
