// The messages of every hop as plain structs: what the cores see. proto/codec turns frames into these and back; the grammar
// of who may say what, when, is in proto/README.md. Pointers in a decoded message point into its frame or the codec's arena
// and live as long as the call that brought it; pointers in a message to be sent are borrowed for the call that sends it.
#pragma once
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/record.h"

enum { PROTOCOL_VERSION = 1, PROTOCOL_OLDEST = 1 };

enum role { ROLE_CLIENT = 0, ROLE_ROUTER = 1, ROLE_WORKER = 2 };

// What a replica is doing; only READY takes new work. The order is that of a life.
enum lifecycle {
    LIFECYCLE_STARTING = 0,
    LIFECYCLE_LOADING = 1, // progress 0..1
    LIFECYCLE_READY = 2,
    LIFECYCLE_NOTICED = 3, // will be taken away at the deadline
    LIFECYCLE_DRAINING = 4,
    LIFECYCLE_FAILED = 5,
};
const char *lifecycle_name(enum lifecycle state); // "ready"

enum finish {
    FINISH_STOP = 0,   // end of sequence or a stop string
    FINISH_LENGTH = 1, // max_tokens or the context was reached
    FINISH_TOOL_CALLS = 2,
    FINISH_ERROR = 3,     // see error
    FINISH_CANCELLED = 4, // by the requester
};

// Records to send (a span of a log) or received (an array). Use records_get().
struct records {
    const struct record *array;   // or
    const struct record_log *log; // with
    uint32_t from;
    uint32_t count;
};
static inline struct record records_get(const struct records *r, uint32_t i) {
    return r->log ? record_log_get(r->log, r->from + i) : r->array[i];
}

struct usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t cached_tokens; // of the prompt, found in a prefix cache
    uint32_t reasoning_tokens;
    uint32_t restored_tokens; // of prompt and given records, loaded from a checkpoint instead of computed again
};

struct member {
    char name[NAME_SIZE];
    uint32_t stage, rank;
    uint32_t pid;
};

// Which model a worker serves. Fixed for the life of an incarnation, but for fingerprint, which is empty until loaded.
struct deployment_info {
    char model[NAME_SIZE];
    char deployment[NAME_SIZE];
    char fingerprint[FINGERPRINT_SIZE];
    uint32_t n_aliases;
    char aliases[ALIASES_MAX][NAME_SIZE];
    uint32_t max_context;  // tokens
    uint32_t max_seqs;     // sequences in one step (a peer: sum over its ready replicas)
    float bytes_per_token; // of prompt text, measured; 0 = unknown
    char store[NAME_SIZE]; // id of the checkpoint store that it reads and writes; "": none
};

// First message of either side of a connection, again after each reconnect, and the answer to a frame from a stranger.
struct msg_hello {
    uint32_t protocol_min, protocol_max;
    enum role role;
    incarnation_t incarnation;
    char name[NAME_SIZE];
    char region[NAME_SIZE];
    char zone[NAME_SIZE];
    uint32_t pid;
    uint32_t heartbeat_ms;   // from a router: send something at least this often (0: your default)
    char http[ADDRESS_SIZE]; // routers: where they listen
    char zmq[ADDRESS_SIZE];
    bool reply_wanted;           // the other side has not said Hello in this connection yet
    struct deployment_info info; // workers
    uint32_t n_members;          // workers of the replica
    const struct member *members;
};

// Groups of status fields: a delta carries the groups that changed, a full status all of them. Values are absolute.
enum { STATUS_INFO = 1, STATUS_LIFE = 2, STATUS_LOAD = 4, STATUS_RATES = 8, STATUS_COUNTERS = 16, STATUS_ALL = 31 };

// Load and speed of one replica, or of all ready replicas of a peer's region together.
struct deployment_status {
    uint32_t groups; // which of the following are set
    struct deployment_info info;
    // STATUS_LOAD
    uint32_t running;       // sequences being computed
    uint32_t queued;        // accepted, waiting for a slot
    uint64_t queued_tokens; // prompt tokens not yet computed
    uint64_t decode_left;   // tokens still expected from running and queued sequences
    uint32_t blocks_free, blocks_total;
    uint32_t replicas_ready, replicas_total; // 1 and 1 from a worker
    uint64_t generates_seen; // Generate messages received on this link so far: credits up to here are in the load
    // STATUS_RATES, measured
    float prefill_rate; // prompt tokens per second
    float decode_rate;  // tokens per second with max_seqs sequences running
    // STATUS_COUNTERS
    uint64_t decoded_total, prefilled_total;
};

struct msg_status {
    uint64_t seq; // of this link, from 1; a gap means: wait for the next full one
    bool full;
    // STATUS_LIFE of the sender
    bool has_life;
    enum lifecycle state;
    float progress;           // LOADING: 0..1
    uint32_t eta_ms;          // LOADING: expected until READY; 0 = unknown
    uint32_t deadline_ms;     // NOTICED, DRAINING: remaining; 0 = none
    char reason[REASON_SIZE]; // STARTING, LOADING: what it waits for, for people
    uint32_t n_deployments;   // 1 from a worker
    const struct deployment_status *deployments;
};

struct msg_generate {
    struct stream_key key;
    struct attempt attempt; // none from a client
    char model[NAME_SIZE];
    char deployment[NAME_SIZE];         // set by the router that chose it
    char fingerprint[FINGERPRINT_SIZE]; // set on a re-placement: only this one may serve it
    char pin[NAME_SIZE];                // replica that must serve it, for tests; empty = any
    char tenant[NAME_SIZE];
    bool has_seed;
    uint64_t seed;         // set by the first router when the client gave none
    uint32_t deadline_ms;  // remaining for the whole call; 0 = the router's default
    uint32_t max_tokens;   // as the client asked; 0 = up to the context
    uint32_t prompt_bytes; // of the prompt's text: the router's estimate of work
    uint32_t hops;         // routers it came through
    bool keep;             // a disconnect of the client does not cancel
    int32_t priority;      // −PRIORITY_MAX … PRIORITY_MAX: where a worker is full, the higher goes first
    const uint8_t *body;   // proto Prompt, opaque to routers
    size_t body_len;
    struct records records;  // delivered so far, from offset 0: go on behind them
    char restore[NAME_SIZE]; // a checkpoint of the stream in this store; "": none. A hint: who can't use it prefills
    char store[NAME_SIZE];
};

// What a Generate asks for (prompt, seed, length), as one number: two that differ in it are different requests.
uint64_t generate_asks(const struct msg_generate *g);

// Is this stream there? Then go on with it as this attempt, from `next`; else Unknown. Never starts one.
struct msg_attach {
    struct stream_key key;
    struct attempt attempt;
    uint32_t next;
    uint32_t held;                      // the stream's first records that the client holds …
    uint64_t prefix;                    // … and their record_log_hash(): else it is another stream
    char fingerprint[FINGERPRINT_SIZE]; // that it must have; empty = any
    char model[NAME_SIZE];              // for a peer
    char deployment[NAME_SIZE];
    uint64_t asks; // generate_asks() of the request
    char tenant[NAME_SIZE];
    uint32_t deadline_ms; // remaining for the whole call; 0 = none
    uint32_t hops;        // 1: to a peer
};

struct msg_accepted {
    struct stream_key key;
    struct attempt attempt;
    uint32_t prompt_tokens;
    uint32_t max_tokens; // effective
    char replica[NAME_SIZE];
    char fingerprint[FINGERPRINT_SIZE];
};

// The attempt ends without a result: refused, or failed at a relaying peer.
struct msg_rejected {
    struct stream_key key;
    struct attempt attempt;
    struct error error;
    uint32_t retry_after_ms; // 0 = no hint
    char replica[NAME_SIZE];
    uint32_t kills; // workers that died serving this attempt at a relaying peer
};

struct msg_tokens {
    struct stream_key key;
    struct attempt attempt;
    uint32_t offset; // of the first record
    struct records records;
};

struct msg_ack {
    struct stream_key key;
    struct attempt attempt;
    uint32_t next; // all records before it have been taken
    bool done;     // Done has been taken too: the sender may let go after its grace period
};

struct msg_resend {
    struct stream_key key;
    struct attempt attempt;
    uint32_t from;
};

struct msg_done {
    struct stream_key key;
    struct attempt attempt;
    uint32_t n_tokens; // length of the whole log
    enum finish finish;
    struct error error; // FINISH_ERROR
    struct usage usage;
    uint8_t tail_channel;
    const char *tail; // text that was held back when the last token came
    uint32_t tail_len;
    char replica[NAME_SIZE];
};

struct sync_entry {
    struct stream_key key;
    struct attempt attempt;
    uint32_t next;
};
struct msg_sync {
    uint32_t n_entries;
    const struct sync_entry *entries;
};

struct msg_unknown { // there is no such stream (or attempt) here
    struct stream_key key;
    struct attempt attempt;
};
struct msg_superseded { // `attempt` is older than `by`
    struct stream_key key;
    struct attempt attempt, by;
};
struct msg_cancel {
    struct stream_key key;
    struct attempt attempt; // from a client: none
};

struct msg_move_offer { // from a worker that must go: the stream stands still behind n_tokens records
    struct stream_key key;
    struct attempt attempt;
    uint32_t n_tokens;
    char handle[NAME_SIZE]; // of its checkpoint; "": none
    char store[NAME_SIZE];  // where that is
    uint64_t bytes;
    uint32_t lease_ms; // remaining: the store keeps it so long
};
struct msg_move_commit { // settles an offer
    struct stream_key key;
    struct attempt attempt; // the one that was offered
    struct attempt by;      // that goes on; none: nobody wants it any more
};
struct msg_notice {
    char name[NAME_SIZE]; // of the replica
    uint32_t deadline_ms; // remaining; 0 = none
};

struct router_view {
    char name[NAME_SIZE], region[NAME_SIZE];
    uint32_t pid;
    char http[ADDRESS_SIZE], zmq[ADDRESS_SIZE];
};
struct replica_view {
    char name[NAME_SIZE], region[NAME_SIZE], zone[NAME_SIZE];
    enum lifecycle state;
    bool suspect;
    struct deployment_status status;
    uint32_t n_members;
    const struct member *members;
    uint32_t deadline_ms; // NOTICED, DRAINING: remaining; 0 = none
    char reason[REASON_SIZE];
};
struct msg_cluster { // the answer to MSG_QUERY: what one router knows
    uint32_t n_routers;
    const struct router_view *routers; // itself first, then its peers
    uint32_t n_replicas;
    const struct replica_view *replicas;
};

enum msg_kind {
    MSG_NONE = 0,
    MSG_HELLO,
    MSG_STATUS,
    MSG_GENERATE,
    MSG_ACCEPTED,
    MSG_REJECTED,
    MSG_TOKENS,
    MSG_ACK,
    MSG_RESEND,
    MSG_DONE,
    MSG_SYNC,
    MSG_UNKNOWN,
    MSG_SUPERSEDED,
    MSG_CANCEL,
    MSG_QUERY, // no fields
    MSG_CLUSTER,
    MSG_MOVE_OFFER,
    MSG_MOVE_COMMIT,
    MSG_NOTICE,
    MSG_ATTACH,
    MSG_KIND_COUNT
};
const char *msg_kind_name(enum msg_kind kind); // "tokens"

struct msg {
    enum msg_kind kind;
    union {
        struct msg_hello hello;
        struct msg_status status;
        struct msg_generate generate;
        struct msg_accepted accepted;
        struct msg_rejected rejected;
        struct msg_tokens tokens;
        struct msg_ack ack;
        struct msg_resend resend;
        struct msg_done done;
        struct msg_sync sync;
        struct msg_unknown unknown;
        struct msg_superseded superseded;
        struct msg_cancel cancel;
        struct msg_cluster cluster;
        struct msg_move_offer move_offer;
        struct msg_move_commit move_commit;
        struct msg_notice notice;
        struct msg_attach attach;
    };
};
