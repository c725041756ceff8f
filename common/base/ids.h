// Ids and times. Times inside a core are milliseconds of a monotonic clock handed in by the caller (type ms_t); times
// on the wire are milliseconds remaining. An incarnation is the random id of one life of a process: never 0, never reused.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef int64_t ms_t;           // monotonic milliseconds
typedef uint64_t incarnation_t; // 0 = unknown
typedef uint32_t link_id;       // a connection, numbered by the shell of this process; 0 = none. Never reused in one life.

#define MS_NEVER INT64_MAX

// 128 random bits, made by whoever first sees the request (client or router). Text form: 32 lower-case hex digits.
typedef struct request_id {
    uint8_t bytes[16];
} request_id;

enum { REQUEST_ID_TEXT = 33 }; // characters with the final NUL

// A stream: one answer ("choice") of one request.
struct stream_key {
    request_id request;
    uint32_t choice;
};

// One placement of a request. Ordered by (takeover, counter, router): the later supersedes the earlier. All zero = none.
struct attempt {
    uint32_t takeover; // how often a router took the stream over from another (Attach)
    uint32_t counter;  // placements made by the router that owns the stream, from 1
    uint64_t router;   // incarnation of that router
};

static inline bool request_id_equal(const request_id *a, const request_id *b) { return memcmp(a, b, sizeof *a) == 0; }
static inline bool stream_key_equal(const struct stream_key *a, const struct stream_key *b) {
    return a->choice == b->choice && request_id_equal(&a->request, &b->request);
}
// < 0, 0, > 0 as a is before, the same as, after b.
int attempt_compare(const struct attempt *a, const struct attempt *b);
static inline bool attempt_equal(const struct attempt *a, const struct attempt *b) { return attempt_compare(a, b) == 0; }
static inline bool attempt_is_none(const struct attempt *a) { return a->takeover == 0 && a->counter == 0 && a->router == 0; }

void request_id_text(const request_id *id, char out[REQUEST_ID_TEXT]);
bool request_id_parse(const char *text, request_id *out); // false: not 32 hex digits
uint64_t stream_key_hash(const struct stream_key *key);
