// Every maximum that is fixed when Shoal is built; those that an operator may change are defaults in the table of
// common/sys/config.c. Full is an answer to the sender, never growth and never a silent drop.
#pragma once

enum {
    NAME_MAX_BYTES = 63, // names of processes, regions, zones, models, deployments
    NAME_SIZE = NAME_MAX_BYTES + 1,
    ADDRESS_SIZE = 128,    // "tcp://host:port"
    REASON_SIZE = 128,     // why a replica is not ready
    FINGERPRINT_SIZE = 33, // 32 hex digits and NUL
    ALIASES_MAX = 8,       // per model
    REGIONS_MAX = 16,      // per cluster
    MODELS_MAX = 16,       // per cluster
    DEPLOYMENTS_MAX = 4,   // per model
    TENANTS_MAX = 64,      // per cluster
    ROUTERS_MAX = 16,      // routers that one process dials
    MEMBERS_MAX = 64,      // workers of one replica

    FRAME_BYTES_MAX = 16 << 20, // one ZeroMQ message: larger is refused by the socket
    BODY_BYTES_MAX = 8 << 20,   // the opaque body of Generate
    RECORDS_PER_FRAME = 256,    // token records in one Tokens message
    RECORD_BYTES_PER_FRAME = 256 << 10,
    RECORD_TEXT_MAX = 64 << 10,  // text released by one token
    TOP_LOGPROBS_MAX = 20,       // OpenAI's own limit
    OUTPUT_TOKENS_MAX = 1 << 20, // records of one stream
    STOP_STRINGS_MAX = 16,
    STOP_STRING_BYTES_MAX = 256,
    STOP_TOKENS_MAX = 64,
    LOGIT_BIAS_MAX = 1024,
    BAD_WORDS_MAX = 64,
    TOOL_NAME_BYTES_MAX = 255,
    TOKEN_LIST_MAX = 300,                                  // tokens that a request allows or bans
    STATUS_DEPLOYMENTS_MAX = MODELS_MAX * DEPLOYMENTS_MAX, // in one Status
    SYNC_ENTRIES_MAX = 1 << 16,                            // in one Sync
    CLUSTER_ROUTERS_MAX = 256,                             // in one Cluster
    CLUSTER_REPLICAS_MAX = 16384,
    CHOICES_MAX = 32,    // n: answers to one request
    HOPS_MAX = 1,        // routers a request may be forwarded through
    PRIORITY_MAX = 1000, // of a request, either way
    KILLS_MAX = 2,       // workers that may die serving one request before it is refused
};

#define RATE_MAX 1e9f // tokens per second, of a worker or of a region's together; what is faster is said to be this

_Static_assert(RECORD_BYTES_PER_FRAME + RECORD_TEXT_MAX * 2 < FRAME_BYTES_MAX, "a Tokens frame must fit");
_Static_assert(BODY_BYTES_MAX * 2 <= FRAME_BYTES_MAX, "a Generate with its body and its records must fit");
