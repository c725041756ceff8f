// The cluster's configuration file: one YAML file, the same on every machine; what differs per machine is a flag. Every key
// stands in one table (config_keys.c) with its type, default, bounds, help and whether it may change without a restart;
// loading, printing, checking and the reference in docs/ all come from that table. A key that isn't in the table is an error
// with its line and the nearest name. Read through libyaml itself and not a struct mapper (libcyaml): that keeps the line of
// every node for the messages, and the table stays the only description of the file.
// Plain data: no pointers, copied by assignment. All times in milliseconds.
#pragma once
#include "common/base/error.h"
#include "common/base/limits.h"
#include "common/sys/log.h"

#include <stdint.h>

enum { CONFIG_PATH_SIZE = 512, CONFIG_FILE_BYTES_MAX = 1 << 20 };

struct config_region {
    char name[NAME_SIZE];
    uint32_t weight;         // share of the work that clients bring; 0: only when others cannot
    uint32_t spill_after_ms; // expected wait above which work goes to another region
};

// How a model writes calls of tools: auto, or one of worker/text/tool_style.h's by its name.
enum config_tools { TOOLS_AUTO, TOOLS_NONE, TOOLS_HERMES, TOOLS_LLAMA3, TOOLS_DEEPSEEK_V3, TOOLS_DEEPSEEK_V31 };
enum config_quant { CONFIG_QUANT_NONE, CONFIG_QUANT_INT8, CONFIG_QUANT_INT4 };
enum config_numeric { CONFIG_NUMERIC_WEIGHTS, CONFIG_NUMERIC_W8A8 };

struct config_deployment {
    char name[NAME_SIZE];
    char path[CONFIG_PATH_SIZE]; // the model's folder on the workers; empty: given to each worker with --path
    uint32_t share;              // of the model's new requests, relative to its other deployments
    enum config_tools tools;
    int parallel;                // pipeline stages of a replica, less one
    enum config_quant quant;     // at load
    enum config_numeric numeric; // of FP8 checkpoints
};

struct config_model {
    char name[NAME_SIZE];
    char aliases[ALIASES_MAX][NAME_SIZE];
    uint32_t n_aliases;
    struct config_deployment deployments[DEPLOYMENTS_MAX];
    uint32_t n_deployments;
};

// Where workers find routers. In the file: a list of "tcp://host:port", or one string "tcp://host:port", "dns:host:port"
// (every address of the name) or "file:/path" (one "tcp://host:port" a line, read again when it changes).
enum config_discover_kind { DISCOVER_NONE, DISCOVER_LIST, DISCOVER_DNS, DISCOVER_FILE };
struct config_discover {
    enum config_discover_kind kind;
    char entries[ROUTERS_MAX][ADDRESS_SIZE]; // LIST: "tcp://host:port"; DNS: "host:port"; FILE: the path
    uint32_t n_entries;
};

struct config_listen { // "host:port", ":port", "[v6]:port" or "unix:/path"; empty: not opened
    char http[ADDRESS_SIZE], zmq[ADDRESS_SIZE], admin[ADDRESS_SIZE], metrics[ADDRESS_SIZE];
};

struct config_limits {
    uint64_t body_bytes;   // HTTP body of a request
    uint64_t header_bytes; // HTTP request line and headers
    uint32_t connections;  // HTTP connections at once
    uint32_t queue;        // requests waiting in a router
    uint64_t queue_tokens; // their prompt tokens (as reckoned)
    uint64_t held_bytes;   // requests and token records in a router
    uint64_t stream_bytes; // bytes not yet taken by a slow client, per stream
};

struct config_timers {
    uint32_t heartbeat_ms, suspect_ms, dead_ms;
    uint32_t status_ms;                             // full status
    uint32_t accept_wait_ms;                        // HTTP headers go out at Accepted, or after this
    uint32_t keepalive_ms;                          // SSE comment on a silent stream
    uint32_t request_deadline_ms;                   // for requests that bring none
    uint32_t leave_ms, drain_ms;                    // a router's end: serving on as not ready; for streams to end
    uint32_t header_ms, body_ms, idle_ms, stall_ms; // HTTP: reading headers, reading a body, between requests, no progress
};

enum config_switch { SWITCH_FALSE, SWITCH_TRUE };

// Who may speak: docs/security.md.
enum config_curve { CURVE_OFF, CURVE_REQUIRED };
enum config_plaintext { PLAINTEXT_LOOPBACK, PLAINTEXT_ANYWHERE };
enum config_metrics_access { METRICS_KEYED, METRICS_OPEN };
struct config_security {
    enum config_curve curve;
    char keys[CONFIG_PATH_SIZE];        // folder of this machine's certificates
    char allow[CONFIG_PATH_SIZE];       // folder of everybody's public certificates; empty: keys
    char api_keys[CONFIG_PATH_SIZE];    // file of API keys' hashes; empty: HTTP asks for none
    char stream_keys[CONFIG_PATH_SIZE]; // file of the keys that sign ids of events; empty: see router/front/stream_keys.h
    enum config_plaintext plaintext;
    enum config_metrics_access metrics;
};

struct config_tenant {
    char name[NAME_SIZE];
    char models[MODELS_MAX][NAME_SIZE]; // that its requests may use
    uint32_t n_models;                  // 0: all
};

enum config_prefix_cache { CONFIG_PREFIX_SHARED, CONFIG_PREFIX_TENANT, CONFIG_PREFIX_OFF };
struct config_serving { // how workers compute
    enum config_prefix_cache prefix_cache;
    uint32_t inter_token_ms;
};

struct config_spot {   // machines that are taken away
    uint32_t drain_ms; // from SIGTERM to the end; 0: as long as it takes
    char checkpoint_dir[CONFIG_PATH_SIZE];
    uint64_t quota_bytes;
    uint32_t max_age_ms;
};

// Under which name an answer's reasoning goes out.
enum config_reasoning { REASONING_CONTENT, REASONING_SHORT, REASONING_BOTH };

struct config_log {
    enum log_format format;
    enum log_level level;
};

struct cluster_config {
    uint32_t schema;
    char cluster[NAME_SIZE];
    enum config_switch strict; // requests with fields that are not known are refused
    enum config_reasoning reasoning_field;
    struct config_discover routers;
    struct config_listen listen;
    struct config_region regions[REGIONS_MAX];
    uint32_t n_regions;
    struct config_model models[MODELS_MAX];
    uint32_t n_models;
    struct config_security security;
    struct config_tenant tenants[TENANTS_MAX];
    uint32_t n_tenants;
    struct config_limits limits;
    struct config_timers timers;
    struct config_serving serving;
    struct config_spot spot;
    struct config_log log;
};

struct buf;

// What stands when the file says nothing.
void config_defaults(struct cluster_config *c);
// Reads a file or a text (name is used in messages) over the defaults and checks it. On failure *e holds the first problem
// as "file:line: sentence", *c is unspecified, and problems (may be NULL) gets every problem, one a line. ERR_CONFIG, or
// ERR_SYSTEM when the file cannot be read.
err_id config_load(struct cluster_config *c, const char *path, struct buf *problems, struct error *e);
err_id config_parse(struct cluster_config *c, const char *name, const char *text, size_t len, struct buf *problems,
                    struct error *e);
// The configuration in force as a YAML file with each key's help as a comment; config_parse reads it back as the same.
void config_print(const struct cluster_config *c, struct buf *out);
// The reference of all keys as a Markdown table.
void config_reference(struct buf *out);
// Takes over *next into *live when only reloadable keys differ; otherwise ERR_CONFIG names the keys that need a restart and
// *live is as it was.
err_id config_apply(struct cluster_config *live, const struct cluster_config *next, struct error *e);

// 1 to NAME_MAX_BYTES letters, digits, '.', '_' or '-'.
bool config_is_name(const char *text);
const struct config_region *config_find_region(const struct cluster_config *c, const char *name); // NULL: none
const struct config_model *config_find_model(const struct cluster_config *c, const char *name_or_alias);
const struct config_tenant *config_find_tenant(const struct cluster_config *c, const char *name);
const struct config_deployment *config_find_deployment(const struct config_model *m, const char *name);
