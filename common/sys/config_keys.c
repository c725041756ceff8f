#include "common/sys/config_keys.h"

#include "common/base/check.h"

#include <stdio.h>
#include <string.h>

static const char *const formats[] = {"kv", "json", NULL};
static const char *const parallels[] = {"pp=1",  "pp=2",  "pp=3",  "pp=4",  "pp=5",  "pp=6",  "pp=7",  "pp=8", "pp=9",
                                        "pp=10", "pp=11", "pp=12", "pp=13", "pp=14", "pp=15", "pp=16", NULL};
static const char *const quants[] = {"none", "int8", "int4", NULL};
static const char *const numerics[] = {"weights", "w8a8", NULL};
static const char *const curve[] = {"off", "required", NULL};
static const char *const plaintext[] = {"loopback", "anywhere", NULL};
static const char *const metrics[] = {"keyed", "open", NULL};
static const char *const prefix_cache[] = {"shared", "tenant", "off", NULL};
static const char *const levels[] = {"debug", "info", "warn", "error", NULL};

static const char *const switches[] = {"false", "true", NULL};
static const char *const reasoning[] = {"reasoning_content", "reasoning", "both", NULL};
static const char *const tools[] = {"auto", "none", "hermes", "llama3", "deepseek_v3", "deepseek_v31", NULL};

#define AT(member)          .offset = offsetof(struct cluster_config, member)
#define IN(element, member) .offset = offsetof(struct element, member)
#define MAP(parent, member)                                                                                                 \
    .offset = offsetof(struct parent, member), .offset_n = offsetof(struct parent, n_##member),                             \
    .stride = sizeof(((struct parent *)0)->member[0])

enum { MS = 1, SECOND = 1000, HOUR = 3600 * SECOND, KB = 1 << 10 };

// A key stands here only when a program acts on it.
const struct config_key CONFIG_KEYS[] = {
    {"schema", CONFIG_NUMBER, "1", 1, 1, AT(schema), .help = "Version of this file's format."},
    {"cluster", CONFIG_NAME, "shoal", AT(cluster), .help = "Name of the cluster, in logs and status."},

    {"strict", CONFIG_WORD, "false", .words = switches, .reloadable = true, AT(strict),
     .help = "true: an HTTP request with a field that is not known is refused. false: the field is ignored and named in the "
             "response header X-Shoal-Ignored."},
    {"reasoning_field", CONFIG_WORD, "reasoning_content", .words = reasoning, .reloadable = true, AT(reasoning_field),
     .help = "The name under which HTTP answers hold a model's reasoning; both: under either."},

    {"routers.discover", CONFIG_DISCOVER, AT(routers),
     .help = "Where workers find routers: a list of tcp://host:port, or dns:host:port (every address of the name), or "
             "file:/path (one tcp://host:port a line, read again when it changes)."},

    {"listen.http", CONFIG_ADDRESS, "127.0.0.1:8080", AT(listen.http), .help = "Where a router serves OpenAI's HTTP API."},
    {"listen.zmq", CONFIG_ADDRESS, "127.0.0.1:7700", AT(listen.zmq),
     .help = "Where a router serves workers, peers and backend services over ZeroMQ."},
    {"listen.admin", CONFIG_ADDRESS, AT(listen.admin),
     .help = "Where a process takes admin calls: unix:/path. Empty: nowhere."},
    {"listen.metrics", CONFIG_ADDRESS, AT(listen.metrics),
     .help = "Where metrics are served apart from listen.http. Empty: only there."},

    {"regions", CONFIG_MAP, .max = REGIONS_MAX, MAP(cluster_config, regions), .help = "The cluster's regions, by name."},
    {"regions.*.weight", CONFIG_PERCENT, "1", 0, 1000000, .reloadable = true, IN(config_region, weight),
     .help = "Long-run share of the work that clients bring, relative to the other regions; 0: only when others cannot."},
    {"regions.*.spill_after", CONFIG_DURATION, "2s", 0, HOUR, .reloadable = true, IN(config_region, spill_after_ms),
     .help = "Expected wait above which work goes to another region."},

    {"models", CONFIG_MAP, .max = MODELS_MAX, MAP(cluster_config, models), .help = "The models served, by name."},
    {"models.*.aliases", CONFIG_NAMES, .reloadable = true, .max = ALIASES_MAX, IN(config_model, aliases),
     .offset_n = offsetof(struct config_model, n_aliases), .help = "Other names that requests may use."},
    {"models.*.deployments", CONFIG_MAP, .max = DEPLOYMENTS_MAX, MAP(config_model, deployments),
     .help = "Versions of the model that replicas serve, by name."},
    {"models.*.deployments.*.path", CONFIG_FILE, IN(config_deployment, path),
     .help = "The model's folder, or its GGUF file, on the workers. Empty: each worker is told by a flag."},
    {"models.*.deployments.*.share", CONFIG_PERCENT, "100", 0, 1000000, .reloadable = true, IN(config_deployment, share),
     .help = "Share of the model's new requests, relative to its other deployments."},
    {"models.*.deployments.*.tools", CONFIG_WORD, "auto", .words = tools, IN(config_deployment, tools),
     .help = "How the model writes calls of tools in its text. auto: as its chat template does. The workers of a deployment "
             "must agree."},
    {"models.*.deployments.*.parallel", CONFIG_WORD, "pp=1", .words = parallels, IN(config_deployment, parallel),
     .help = "pp=N: a replica is N processes, each with a part of the layers. The flag --parallel goes before it."},
    {"models.*.deployments.*.quant", CONFIG_WORD, "none", .words = quants, IN(config_deployment, quant),
     .help = "Workers quantise the weights at load: none, int8 or int4. The flag --quant goes before it."},
    {"models.*.deployments.*.numeric", CONFIG_WORD, "weights", .words = numerics, IN(config_deployment, numeric),
     .help = "FP8 checkpoints: weights keeps activations as they are, w8a8 makes them FP8 too. The flag --numeric goes "
             "before it."},

    {"security.curve", CONFIG_WORD, "off", .words = curve, AT(security.curve),
     .help =
         "off: ZeroMQ links are plaintext and stay on this host. required: every ZeroMQ link is encrypted with CURVE, and "
         "both ends show a certificate that security.allow knows."},
    {"security.keys", CONFIG_FILE, AT(security.keys),
     .help = "Folder of this machine's own certificates: NAME.cert and NAME.cert_secret, as `shoal keygen` makes them."},
    {"security.allow", CONFIG_FILE, AT(security.allow),
     .help =
         "Folder of the public certificates (*.cert) of everybody who may speak, with role and tenant; read again when it "
         "changes and on SIGHUP. Empty: security.keys."},
    {"security.api_keys", CONFIG_FILE, AT(security.api_keys),
     .help = "File of the API keys' hashes, as `shoal key add` writes it; read again when it changes and on SIGHUP. Empty: "
             "HTTP asks for no key."},
    {"security.stream_keys", CONFIG_FILE, AT(security.stream_keys),
     .help = "File of one or two keys of 64 hex digits, the same on all routers, that sign the ids of events, with which "
             "HTTP clients go on "
             "at another router: the first signs, both are believed; read again when it changes. Empty: routers on loopback "
             "without "
             "API keys understand each other, others only themselves."},
    {"security.plaintext", CONFIG_WORD, "loopback", .words = plaintext, AT(security.plaintext),
     .help =
         "loopback: without CURVE (ZeroMQ) or API keys (HTTP) only loopback and unix addresses are served. anywhere: other "
         "addresses too, readable and usable by everybody who can reach them."},
    {"security.metrics", CONFIG_WORD, "keyed", .words = metrics, AT(security.metrics),
     .help =
         "keyed: /metrics asks for an operator's API key, except on a loopback or unix address of its own. open: it never "
         "does."},

    {"tenants", CONFIG_MAP, .max = TENANTS_MAX, MAP(cluster_config, tenants),
     .help = "Who API keys and client certificates may belong to, by name. Empty: anybody."},
    {"tenants.*.models", CONFIG_NAMES, .max = MODELS_MAX, IN(config_tenant, models),
     .offset_n = offsetof(struct config_tenant, n_models), .help = "Models that the tenant may use. Empty: all."},

    {"limits.body", CONFIG_SIZE, "8MB", KB, BODY_BYTES_MAX, AT(limits.body_bytes),
     .help = "Longest HTTP body of a request."},
    {"limits.header", CONFIG_SIZE, "32KB", KB, 64 * KB, AT(limits.header_bytes),
     .help = "Longest HTTP request line and headers together."},
    {"limits.connections", CONFIG_NUMBER, "4096", 1, 65536, AT(limits.connections), .help = "HTTP connections at once."},
    {"limits.queue", CONFIG_NUMBER, "1024", 1, 1000000, .reloadable = true, AT(limits.queue),
     .help = "Requests that may wait in a router."},
    {"limits.queue_tokens", CONFIG_COUNT, "4M", 1, UINT64_C(1000000000000), .reloadable = true, AT(limits.queue_tokens),
     .help = "Prompt tokens of the waiting requests, as reckoned."},
    {"limits.held_bytes", CONFIG_SIZE, "1GB", 1 << 20, UINT64_C(1) << 40, .reloadable = true, AT(limits.held_bytes),
     .help = "Bytes of requests and answers that a router holds, above which no more come in."},
    {"limits.stream_bytes", CONFIG_SIZE, "1MB", 4 * KB, 1 << 30, .reloadable = true, AT(limits.stream_bytes),
     .help = "Bytes of one stream that a slow client has not taken yet, above which no more are rendered."},

    {"timers.heartbeat", CONFIG_DURATION, "100ms", 10 * MS, 10 * SECOND, AT(timers.heartbeat_ms),
     .help = "Each side of a link says something at least this often."},
    {"timers.suspect", CONFIG_DURATION, "300ms", 20 * MS, 60 * SECOND, AT(timers.suspect_ms),
     .help = "Silence, beyond two round trips, after which a link gets no new work."},
    {"timers.dead", CONFIG_DURATION, "1s", 50 * MS, 300 * SECOND, AT(timers.dead_ms),
     .help = "Silence, beyond two round trips, after which a link is dead."},
    {"timers.status", CONFIG_DURATION, "1s", 50 * MS, 60 * SECOND, AT(timers.status_ms),
     .help = "How often a worker sends its full status."},
    {"timers.accept_wait", CONFIG_DURATION, "2s", 0, 60 * SECOND, .reloadable = true, AT(timers.accept_wait_ms),
     .help = "HTTP headers of a stream go out when a worker accepts, or after this."},
    {"timers.keepalive", CONFIG_DURATION, "10s", 100 * MS, HOUR, .reloadable = true, AT(timers.keepalive_ms),
     .help = "A stream on which nothing came for this long gets a keep-alive comment."},
    {"timers.request_deadline", CONFIG_DURATION, "10m", SECOND, 24 * HOUR, .reloadable = true,
     AT(timers.request_deadline_ms), .help = "Time for the whole of a request that brings no deadline of its own."},
    {"timers.leave", CONFIG_DURATION, "2s", 0, HOUR, .reloadable = true, AT(timers.leave_ms),
     .help = "A router that is to end says that it is not ready, and serves on for this long. Longer than a load balancer "
             "takes to notice."},
    {"timers.drain", CONFIG_DURATION, "10m", 0, 24 * HOUR, .reloadable = true, AT(timers.drain_ms),
     .help = "Then it takes nothing new, and ends when its streams have ended, or after this: clients go on at another one. "
             "0: no limit."},
    {"timers.http_header", CONFIG_DURATION, "10s", 100 * MS, HOUR, AT(timers.header_ms),
     .help = "Time for the headers of an HTTP request to arrive."},
    {"timers.http_body", CONFIG_DURATION, "2m", 100 * MS, HOUR, AT(timers.body_ms),
     .help = "Time for the body of an HTTP request to arrive."},
    {"timers.http_idle", CONFIG_DURATION, "75s", 100 * MS, HOUR, AT(timers.idle_ms),
     .help = "Time that an HTTP connection may wait between requests."},
    {"timers.http_stall", CONFIG_DURATION, "60s", 100 * MS, HOUR, AT(timers.stall_ms),
     .help = "Time that a client may take no bytes that wait for it."},

    {"serving.prefix_cache", CONFIG_WORD, "shared", .words = prefix_cache, AT(serving.prefix_cache),
     .help = "Requests that begin with the same tokens compute them once on a worker. shared: of all tenants, who can tell "
             "from a first token's time what others asked. tenant: only of the same tenant. off: none."},
    {"serving.inter_token", CONFIG_DURATION, "50ms", 0, 60 * SECOND, AT(serving.inter_token_ms),
     .help = "Target for the time between two tokens of an answer (99th percentile): prompts that come meanwhile are "
             "computed in "
             "parts that fit. 0: parts as large as a step may be."},

    {"spot.drain", CONFIG_DURATION, "25s", 0, 24 * HOUR, AT(spot.drain_ms),
     .help = "Time from SIGTERM until a worker is gone: what can't end by then is handed over. 0: it finishes what runs."},
    {"spot.checkpoint.dir", CONFIG_FILE, AT(spot.checkpoint_dir),
     .help =
         "Directory in which workers leave the state of streams that move, the same files for all of them. Empty: streams "
         "that move are computed again."},
    {"spot.checkpoint.quota", CONFIG_SIZE, "0", 0, UINT64_MAX, AT(spot.quota_bytes),
     .help = "Bytes that checkpoints may take; the oldest go first. 0: no limit."},
    {"spot.checkpoint.max_age", CONFIG_DURATION, "1h", 0, 24 * HOUR, AT(spot.max_age_ms),
     .help = "Age at which a checkpoint that nobody has fetched is deleted. 0: never."},

    {"log.format", CONFIG_WORD, "kv", .words = formats, AT(log.format), .help = "kv or json."},
    {"log.level", CONFIG_WORD, "info", .words = levels, .reloadable = true, AT(log.level),
     .help = "Lines below this level are left out: debug, info, warn or error."},
};
const size_t CONFIG_KEYS_N = ARRAY_LEN(CONFIG_KEYS);

const struct config_key *config_key_find(const char *path) {
    for (size_t i = 0; i < CONFIG_KEYS_N; i++)
        if (strcmp(CONFIG_KEYS[i].path, path) == 0) return &CONFIG_KEYS[i];
    return NULL;
}

void config_key_join(const char *prefix, const char *word, char out[CONFIG_KEY_PATH_SIZE]) {
    snprintf(out, CONFIG_KEY_PATH_SIZE, "%s%s%s", prefix, prefix[0] ? "." : "", word);
}

bool config_key_child(const char *prefix, size_t *at, char name[NAME_SIZE]) {
    size_t len = strlen(prefix);
    char last[NAME_SIZE] = "";
    for (size_t i = 0; i < CONFIG_KEYS_N; i++) {
        const char *path = CONFIG_KEYS[i].path;
        if (len && (strncmp(path, prefix, len) != 0 || path[len] != '.')) continue;
        const char *word = path + len + (len > 0);
        char found[NAME_SIZE];
        snprintf(found, sizeof found, "%.*s", (int)strcspn(word, "."), word);
        bool again = strcmp(found, last) == 0; // the table keeps what belongs together together
        memcpy(last, found, sizeof last);
        if (again || i < *at) continue;
        memcpy(name, found, sizeof found);
        *at = i + 1;
        return true;
    }
    return false;
}
