// A worker process put together: settings → model, text and engine → core and links on one libuv loop → drain. Loop thread.
#pragma once
#include "common/sys/config.h"
#include "worker/engine/types.h"

struct host_group {         // pipeline stages in processes of their own
    uint32_t stages, stage; // stages 1: no group; stage 0 leads it
    char name[NAME_SIZE];
    const char *listen;              // where followers dial the leader, and a stage the one behind it
    const char *leader;              // followers: its address
    uint32_t layer_first, layer_end; // 0, 0: as all stages reckon alike
};

struct host_settings {
    struct cluster_config config;
    char name[NAME_SIZE], region[NAME_SIZE], zone[NAME_SIZE];
    char model[NAME_SIZE], deployment[NAME_SIZE];
    uint32_t n_aliases;
    char aliases[ALIASES_MAX][NAME_SIZE];
    const char *path;   // the model's folder; NULL for the mock
    const char *device; // of the table of backends
    enum config_tools tools;
    struct config_discover routers;
    const char *admin, *metrics; // addresses, or NULL
    const char *key;             // its certificate, in security.keys
    const char *record;          // file for step plans, or NULL
    struct host_group group;
    uint32_t micro_batches; // of a group
    uint32_t max_seqs, step_tokens, chunk_tokens, queue_max, plans_in_flight, grace_ms;
    uint64_t kept_bytes_max;
    uint32_t drain_deadline_ms;
    bool restore;               // the prefix cache outlives the process, in the checkpoint store
    const char *checkpoint_dir; // NULL or "": no checkpoints
    struct engine_opts engine;  // what the command line said of it
};

// Runs until it has drained or failed. Returns the exit code: 0 drained, 1 the engine failed, 2 it could not start (one
// sentence on stderr).
int host_run(const struct host_settings *settings);
