// What libshoal tells of a cluster: plain data, freed by shoal_cluster_free.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { SHOAL_NAME_SIZE = 64, SHOAL_ADDRESS_SIZE = 128 };

struct shoal_worker {
    char name[SHOAL_NAME_SIZE];
    uint32_t stage, rank, pid;
};
struct shoal_router_view {
    char name[SHOAL_NAME_SIZE], region[SHOAL_NAME_SIZE];
    uint32_t pid;
    char http[SHOAL_ADDRESS_SIZE], zmq[SHOAL_ADDRESS_SIZE];
    bool reached; // it answered itself; else another router told of it
};
struct shoal_replica_view {
    char name[SHOAL_NAME_SIZE], region[SHOAL_NAME_SIZE], zone[SHOAL_NAME_SIZE];
    char model[SHOAL_NAME_SIZE], deployment[SHOAL_NAME_SIZE], fingerprint[SHOAL_NAME_SIZE];
    char state[16]; // "ready"
    bool suspect;
    uint32_t running, queued;
    uint64_t queued_tokens;
    uint32_t blocks_free, blocks_total;
    float prefill_rate, decode_rate; // tokens per second
    uint64_t decoded_total, prefilled_total;
    uint32_t n_workers;
    struct shoal_worker *workers;
    uint32_t deadline_ms;        // noticed, draining: until it is gone; 0: not said
    char store[SHOAL_NAME_SIZE]; // of checkpoints; empty: none
    char reason[128];            // why it is not ready; may be empty
};
struct shoal_cluster {
    uint32_t n_routers, n_replicas;
    struct shoal_router_view *routers;
    struct shoal_replica_view *replicas;
};
