// What became of streams that clients may ask for again: the number of the last attempt made for each, kept for a while
// after its session has ended. A client that comes back too late starts a new session of the same key; its attempts must go
// on behind the old ones, or a worker would take them for these. Bounded: the oldest are forgotten first.
#pragma once
#include "common/base/table.h"
#include "common/base/ids.h"
#include "router/core/list.h"

enum { LAST_ATTEMPTS_MAX = 16384, LAST_ATTEMPT_MS = 180000 };

struct last_attempts {
    struct table by_key;
    struct list oldest_first; // initialised by its owner
};

void last_attempt_note(struct last_attempts *l, const struct stream_key *key, uint32_t counter, ms_t now);
// 0: none is known.
uint32_t last_attempt_counter(const struct last_attempts *l, const struct stream_key *key);
void last_attempts_free(struct last_attempts *l);
