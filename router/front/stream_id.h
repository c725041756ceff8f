// The id of an event of an answer's stream: with it a client goes on at any router, exactly behind the event
// (`Last-Event-ID`). It says which stream it is and where it stands, and how much of it the client has, with a hash of what
// that was, so that a stream is never continued with what does not belong to it. A MAC (keyed BLAKE2b, RFC 7693) binds all
// of it to the tenant: an id can't be made up, changed, or used by another tenant. Compact: about 110 characters of
// base64url.
//
// version, phase | request id | fingerprint | seed | takeover, created, offset | hash of the request, of the text | replica
// | of a request with several answers: how many more there are, and phase, offset and hash of each | MAC
#pragma once
#include "common/base/buf.h"
#include "common/base/message.h"
#include "router/front/stream_keys.h"

// How much of an answer has been rendered. Records, then these.
enum stream_phase { PHASE_RECORDS, PHASE_TAIL, PHASE_FINISH, PHASE_USAGE };

struct stream_position {
    uint32_t offset; // records
    enum stream_phase phase;
    uint64_t hash; // chain over what was rendered
};

void stream_position_record(struct stream_position *at, const struct record *r);
void stream_position_tail(struct stream_position *at, const struct msg_done *done); // phase becomes PHASE_TAIL
bool stream_position_equal(const struct stream_position *a, const struct stream_position *b);

struct stream_id {
    request_id request;
    char fingerprint[FINGERPRINT_SIZE];
    char replica[NAME_SIZE]; // that serves the first choice
    uint64_t seed;
    uint64_t asks;     // generate_asks() of the request
    uint32_t takeover; // of the attempt; of several choices the highest
    int64_t created;   // Unix seconds
    uint32_t n;        // answers ("choices"), ≥ 1
    struct stream_position at[CHOICES_MAX];
};

void stream_id_write(const struct stream_id *id, const struct stream_keys *keys, const char *tenant, struct buf *out);
// ERR_INVALID_ARGUMENT: not an id. ERR_FORBIDDEN: made with another key, changed, or another tenant's.
err_id stream_id_read(const char *text, const struct stream_keys *keys, const char *tenant, struct stream_id *out,
                      struct error *e);

// The request id that an Idempotency-Key of a tenant stands for, at every router of the cluster.
request_id stream_id_of_key(const char *cluster, const char *tenant, const char *key);
// A seed for a request that has none: the same at every router.
uint64_t stream_id_seed(const request_id *request);
