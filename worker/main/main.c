// shoal-worker: serves one model on one device to the routers it dials. This file reads flags and configuration; host.c runs
// it.
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "common/sys/process.h"
#include "worker/engine/table.h"
#include "worker/group/message.h"
#include "worker/main/follower_host.h"
#include "worker/main/host.h"
#include "worker/model/quant.h"
#include "worker/model/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct command_line {
    const char *parallel, *group, *group_listen, *leader, *layers;
    uint32_t stage, micro_batches, mock_layers;
    const char *config, *name, *region, *zone, *model, *path, *device, *quant, *isa, *numeric, *admin, *metrics, *record,
        *key, *log_level, *checkpoint_dir;
    struct flag_list routers;
    bool check_config, print_config, restore;
    uint32_t threads, max_seqs, max_context, block_tokens, step_tokens, chunk_tokens, queue, plans, step_min_ms, grace_ms,
        drain_ms;
    uint64_t kv_bytes, kept_bytes;
    double mock_prefill, mock_decode_ms;
    uint32_t mock_answer;
    const char *mock_say;
};

enum { PROMPT_TOKENS = 448 }; // of prompts in a step, beside the sequences' own

static const char mock_crash_word[] = "<crash>";

static enum flags_next read_flags(struct command_line *c, int argc, char **argv) {
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    const struct flag flags[] = {
        {"config", FLAG_STRING, &c->config, "FILE", "the cluster's configuration file", NULL, 0, 0, false},
        {"name", FLAG_STRING, &c->name, "NAME", "name of this replica, unique [worker-PID]", NULL, 0, 0, false},
        {"region", FLAG_STRING, &c->region, "NAME", "region that this worker is in", NULL, 0, 0, false},
        {"zone", FLAG_STRING, &c->zone, "NAME", "zone that this worker is in", NULL, 0, 0, false},
        {"router", FLAG_LIST, &c->routers, "ADDRESS", "a router to dial (instead of routers.discover)", NULL, 0, 0, false},
        {"model", FLAG_STRING, &c->model, "NAME[@DEPLOYMENT]", "the model to serve, as clients name it", NULL, 0, 0, false},
        {"path", FLAG_STRING, &c->path, "PATH", "the model: a folder or a GGUF file (instead of the deployment's path)",
         NULL, 0, 0, false},
        {"device", FLAG_STRING, &c->device, "DEVICE", "what computes: cpu, or mock (without a model)", NULL, 0, 0, false},
        {"quant", FLAG_STRING, &c->quant, "FORMAT", "quantise the weights at load: int8 or int4", NULL, 0, 0, false},
        {"numeric", FLAG_STRING, &c->numeric, "CLASS", "of FP8: weights, or w8a8 (activations too)", NULL, 0, 0, false},
        {"isa", FLAG_STRING, &c->isa, "SET", "CPU: best, generic, avx2, avx512 or avx512-bf16", NULL, 0, 0, false},
        {"parallel", FLAG_STRING, &c->parallel, "pp=N",
         "one of N pipeline stages, processes that serve together (instead of the deployment's parallel)", NULL, 0, 0,
         false},
        {"stage", FLAG_U32, &c->stage, "K", "which stage: 0, the leader, which has the other flags too, to N-1", NULL, 0,
         GROUP_STAGES_MAX - 1, false},
        {"group", FLAG_STRING, &c->group, "NAME", "the stages' common name", NULL, 0, 0, false},
        {"group-listen", FLAG_STRING, &c->group_listen, "ADDRESS",
         "stage 0: where the others dial it; stages from 2: where the one before does [tcp://127.0.0.1:0]", NULL, 0, 0,
         false},
        {"leader", FLAG_STRING, &c->leader, "ADDRESS", "stages from 1: the leader's --group-listen", NULL, 0, 0, false},
        {"layers", FLAG_STRING, &c->layers, "A-B", "its layers, instead of a split by their cost", NULL, 0, 0, false},
        {"micro-batches", FLAG_U32, &c->micro_batches, "N", "of a group: steps under way at once; 0: one for each stage",
         NULL, 0, ENGINE_DEPTH, false},
        {"threads", FLAG_U32, &c->threads, "N", "threads of the CPU engine; 0: as many as it may use", NULL, 0, 1024, false},
        {"max-seqs", FLAG_U32, &c->max_seqs, "N", "sequences computed at once", NULL, 1, 4096, false},
        {"max-context", FLAG_U32, &c->max_context, "TOKENS", "prompt and answer; 0: the model's", NULL, 0, 1 << 24, false},
        {"kv-bytes", FLAG_SIZE, &c->kv_bytes, "SIZE", "memory for the KV cache; 0: as needed", NULL, 0, 0, false},
        {"block-tokens", FLAG_U32, &c->block_tokens, "TOKENS", "size of a KV block", NULL, 1, 1024, false},
        {"step-tokens", FLAG_U32, &c->step_tokens, "TOKENS", "budget of one step; 0: as needed", NULL, 0, 1 << 16, false},
        {"chunk-tokens", FLAG_U32, &c->chunk_tokens, "TOKENS", "most of one prompt in a step", NULL, 1, 1 << 16, false},
        {"plans-in-flight", FLAG_U32, &c->plans, "N", "steps planned ahead", NULL, 1, ENGINE_DEPTH, false},
        {"queue", FLAG_U32, &c->queue, "N", "streams that may wait for a slot", NULL, 0, 1 << 16, false},
        {"step-min-ms", FLAG_U32, &c->step_min_ms, "MS", "slow down: the least that a step takes", NULL, 0, 60000, false},
        {"grace", FLAG_DURATION, &c->grace_ms, "DURATION", "keep a stream's log after its end, or without a router", NULL, 0,
         0, false},
        {"kept-logs", FLAG_SIZE, &c->kept_bytes, "SIZE", "memory for the logs of finished streams: the oldest go first",
         NULL, 0, 0, false},
        {"drain-deadline", FLAG_DURATION, &c->drain_ms, "DURATION", "on SIGTERM, finish or hand over within; 0: spot.drain",
         NULL, 0, 0, false},
        {"checkpoint-dir", FLAG_STRING, &c->checkpoint_dir, "DIR", "streams that move (spot.checkpoint.dir)", NULL, 0, 0,
         false},
        {"restore", FLAG_BOOL, &c->restore, NULL, "keep the prefix cache across restarts (checkpoint store)", NULL, 0, 0,
         false},
        {"mock-prefill", FLAG_DOUBLE, &c->mock_prefill, "TOKENS/S", "mock: prompt tokens per second", NULL, 0, 0, false},
        {"mock-decode-ms", FLAG_DOUBLE, &c->mock_decode_ms, "MS", "mock: duration of a decode step", NULL, 0, 0, false},
        {"mock-answer", FLAG_U32, &c->mock_answer, "TOKENS", "mock: mean length of answers; 0: no end", NULL, 0, 0, false},
        {"mock-say", FLAG_STRING, &c->mock_say, "TEXT", "mock: every answer, instead of letters", NULL, 0, 0, false},
        {"mock-layers", FLAG_U32, &c->mock_layers, "N", "mock: layers; 0: one for each stage", NULL, 0, 1024, false},
        {"admin", FLAG_STRING, &c->admin, "ADDRESS", "admin socket, unix:/path", NULL, 0, 0, false},
        {"metrics", FLAG_STRING, &c->metrics, "ADDRESS", "for /metrics, /livez and /readyz", NULL, 0, 0, false},
        {"record", FLAG_STRING, &c->record, "FILE", "a new file for every call of the engine, for shoal-model replay", NULL,
         0, 0, false},
        {"key", FLAG_STRING, &c->key, "NAME",
         "this worker's certificate, in security.keys, when security.curve is required; or a path with a '/'", NULL, 0, 0,
         false},
        {"check-config", FLAG_BOOL, &c->check_config, NULL, "check the configuration and exit", NULL, 0, 0, false},
        {"print-config", FLAG_BOOL, &c->print_config, NULL, "print the configuration in force and exit", NULL, 0, 0, false},
        {"log-level", FLAG_STRING, &c->log_level, "LEVEL", "the least that is logged (instead of log.level)", levels, 0, 0,
         false},
    };
    const struct flag_spec spec = {
        .program = "shoal-worker",
        .summary = "Serves one model to the routers it dials.",
        .examples = "  shoal-worker --router tcp://127.0.0.1:7700 --model tiny --path deploy/local/model\n"
                    "  shoal-worker --config cluster.yaml --region north --model r1@blue --device cpu\n"
                    "  shoal-worker --router tcp://127.0.0.1:7700 --model m --device mock --mock-decode-ms 20\n"
                    "two stages of one replica:\n"
                    "  shoal-worker --parallel pp=2 --group g --group-listen tcp://127.0.0.1:7800 --path DIR --model tiny "
                    "--router tcp://127.0.0.1:7700\n"
                    "  shoal-worker --parallel pp=2 --group g --stage 1 --leader tcp://127.0.0.1:7800 --path DIR\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

static err_id copy_name(char to[NAME_SIZE], const char *from, const char *what, struct error *e) {
    if (strlen(from) > NAME_MAX_BYTES || *from == '\0')
        return error_set(e, ERR_CONFIG, "%s must have 1 to %d bytes", what, NAME_MAX_BYTES);
    snprintf(to, NAME_SIZE, "%s", from);
    return ERR_NONE;
}

// "r1@blue", or "r1" for its only (or first) deployment, or a model that the configuration doesn't know.
static err_id choose_model(struct host_settings *s, const struct command_line *c, struct error *e) {
    const struct cluster_config *cfg = &s->config;
    char name[2 * NAME_SIZE];
    if (c->model == NULL && cfg->n_models != 1)
        return error_set(e, ERR_CONFIG, "which model? give --model NAME (the configuration names %u)", cfg->n_models);
    snprintf(name, sizeof name, "%s", c->model ? c->model : cfg->models[0].name);
    char *at = strchr(name, '@');
    if (at) *at++ = '\0';
    const struct config_model *m = config_find_model(cfg, name);
    if (m && at == NULL && m->n_deployments > 0) at = (char *)m->deployments[0].name;
    TRY(copy_name(s->model, m ? m->name : name, "--model", e));
    TRY(copy_name(s->deployment, at ? at : "default", "the deployment in --model", e));
    s->path = c->path;
    if (m == NULL) return ERR_NONE;
    s->n_aliases = m->n_aliases;
    memcpy(s->aliases, m->aliases, sizeof s->aliases);
    const struct config_deployment *d = config_find_deployment(m, s->deployment);
    if (d == NULL && m->n_deployments > 0)
        return error_set(e, ERR_CONFIG, "the configuration has no deployment '%s' of model '%s'", s->deployment, s->model);
    bool mock = strcmp(s->device, "mock") == 0;
    if (d && d->path[0] && !s->path && !mock) s->path = d->path;
    if (d) s->tools = d->tools;
    return ERR_NONE;
}

static err_id choose_routers(struct host_settings *s, const struct command_line *c, struct error *e) {
    s->routers = s->config.routers;
    if (c->routers.n > ROUTERS_MAX) return error_set(e, ERR_CONFIG, "--router can be given at most %d times", ROUTERS_MAX);
    if (c->routers.n == 0 && s->routers.kind == DISCOVER_NONE)
        return error_set(e, ERR_CONFIG,
                         "no routers: give --router tcp://HOST:PORT, or routers.discover in the configuration");
    if (c->routers.n == 0) return ERR_NONE;
    s->routers = (struct config_discover){.kind = DISCOVER_LIST, .n_entries = c->routers.n};
    for (uint32_t i = 0; i < c->routers.n; i++)
        snprintf(s->routers.entries[i], sizeof s->routers.entries[i], "%s", c->routers.values[i]);
    return ERR_NONE;
}

static err_id choose_group(struct host_settings *s, const struct command_line *c, struct error *e) {
    struct host_group *g = &s->group;
    const struct config_model *m = config_find_model(&s->config, s->model);
    const struct config_deployment *d = m ? config_find_deployment(m, s->deployment) : NULL;
    g->stages = d ? (uint32_t)d->parallel + 1 : 1;
    if (c->parallel) TRY(split_parse(c->parallel, &g->stages, e));
    bool meant = c->group || c->group_listen || c->leader || c->layers || c->stage > 0 || c->micro_batches > 0;
    if (g->stages == 1 && meant)
        return error_set(e, ERR_CONFIG,
                         "--group, --stage, --group-listen, --leader, --layers and --micro-batches need "
                         "--parallel pp=N, or the deployment's parallel, with N above 1");
    if (g->stages == 1) return ERR_NONE;
    g->stage = c->stage;
    g->leader = c->leader;
    g->listen = c->group_listen ? c->group_listen : "tcp://127.0.0.1:0";
    if (c->stage >= g->stages)
        return error_set(e, ERR_CONFIG, "--stage %u: the stages of pp=%u are 0 to %u", c->stage, g->stages, g->stages - 1);
    TRY(copy_name(g->name, c->group ? c->group : "", "--group", e));
    if (g->stage == 0 && c->leader) return error_set(e, ERR_CONFIG, "stage 0 is the leader: leave --leader out");
    if (g->stage == 0 && !c->group_listen)
        return error_set(e, ERR_CONFIG, "stage 0 needs --group-listen ADDRESS, where the other stages dial it");
    if (g->stage > 0 && !c->leader)
        return error_set(e, ERR_CONFIG, "stage %u needs --leader ADDRESS, the --group-listen of stage 0", g->stage);
    if (c->record && g->stage > 0)
        return error_set(e, ERR_CONFIG, "--record is the leader's, who makes the plans: leave it out");
    if (c->layers) TRY(split_parse_layers(c->layers, &g->layer_first, &g->layer_end, e));
    uint32_t most = g->stages < ENGINE_DEPTH ? g->stages : ENGINE_DEPTH;
    s->micro_batches = s->plans_in_flight = c->micro_batches > 0 ? c->micro_batches : most;
    return ERR_NONE;
}

static void set_mock(struct engine_mock_opts *m, const struct command_line *c) {
    m->prefill_tokens_s = (float)c->mock_prefill;
    m->decode_ms = (float)c->mock_decode_ms;
    m->vocab = 512;
    m->eos = 257; // beyond the bytes that stand for text
    m->eos_every = c->mock_answer;
    m->layers = c->mock_layers;
    m->n_crash = sizeof mock_crash_word - 1;
    for (uint32_t i = 0; i < m->n_crash; i++) m->crash[i] = (uint8_t)mock_crash_word[i];
}

// Quantisation, numeric class and instruction set: flags before the deployment's own words.
static err_id choose_arithmetic(struct host_settings *s, const struct command_line *c, struct error *e) {
    const struct config_model *m = config_find_model(&s->config, s->model);
    const struct config_deployment *d = m ? config_find_deployment(m, s->deployment) : NULL;
    bool mock = strcmp(c->device, "mock") == 0;
    enum quant quant = QUANT_NONE;
    if (c->quant) {
        TRY(quant_parse(c->quant, &quant, e));
    } else if (d && !mock) {
        quant = d->quant == CONFIG_QUANT_INT8 ? QUANT_INT8 : d->quant == CONFIG_QUANT_INT4 ? QUANT_INT4 : QUANT_NONE;
    }
    s->engine.quant = quant;
    if (quant != QUANT_NONE && mock)
        return error_set(e, ERR_CONFIG, "--device mock has no weights to quantise: leave --quant out");
    const char *numeric = c->numeric == NULL && d && d->numeric == CONFIG_NUMERIC_W8A8 ? "w8a8" : c->numeric;
    TRY(engine_numeric_parse(numeric, &s->engine.numeric, e));
    return engine_isa_parse(c->isa, &s->engine.isa, e);
}

static err_id choose_restore(struct host_settings *s, const struct command_line *c, struct error *e) {
    s->restore = c->restore;
    if (!s->restore) return ERR_NONE;
    if (s->checkpoint_dir == NULL || s->checkpoint_dir[0] == '\0')
        return error_set(
            e, ERR_CONFIG,
            "--restore needs a checkpoint store: give --checkpoint-dir, or spot.checkpoint.dir in the configuration");
    if (s->group.stages > 1)
        return error_set(e, ERR_CONFIG,
                         "--restore is for a worker that holds all layers: leave it out, or leave --parallel out");
    if (s->config.serving.prefix_cache != CONFIG_PREFIX_SHARED)
        return error_set(e, ERR_CONFIG,
                         "--restore keeps prefixes without their tenants: it needs serving.prefix_cache shared");
    return ERR_NONE;
}

static err_id settle(struct host_settings *s, const struct command_line *c, struct error *e) {
    char own_name[NAME_SIZE];
    snprintf(own_name, sizeof own_name, "worker-%d", (int)getpid());
    TRY(copy_name(s->name, c->name ? c->name : own_name, "--name", e));
    TRY(copy_name(s->region, c->region, "--region", e));
    if (c->zone) TRY(copy_name(s->zone, c->zone, "--zone", e));
    s->device = c->device;
    s->plans_in_flight = c->plans;
    bool leads = c->stage == 0;
    if (leads || c->model || s->config.n_models == 1) TRY(choose_model(s, c, e));
    TRY(choose_group(s, c, e));
    if (leads) TRY(choose_routers(s, c, e));
    if (s->path == NULL) s->path = c->path;
    s->admin = c->admin;
    s->metrics = c->metrics;
    s->record = c->record;
    s->key = c->key;
    s->max_seqs = c->max_seqs;
    uint32_t tokens = c->step_tokens ? c->step_tokens : c->max_seqs + PROMPT_TOKENS;
    s->step_tokens = tokens < c->max_seqs ? c->max_seqs : tokens; // every sequence must fit a step
    s->chunk_tokens = c->chunk_tokens;
    s->queue_max = c->queue;
    s->grace_ms = c->grace_ms;
    s->kept_bytes_max = c->kept_bytes;
    s->drain_deadline_ms = c->drain_ms ? c->drain_ms : s->config.spot.drain_ms;
    s->checkpoint_dir = c->checkpoint_dir ? c->checkpoint_dir : s->config.spot.checkpoint_dir;
    TRY(choose_restore(s, c, e));
    s->engine = (struct engine_opts){.threads = c->threads,
                                     .context = c->max_context,
                                     .block_tokens = c->block_tokens,
                                     .kv_bytes = c->kv_bytes,
                                     .step_min_ms = c->step_min_ms};
    TRY(choose_arithmetic(s, c, e));
    set_mock(&s->engine.mock, c);
    s->engine.mock_say = c->mock_say;
    if (s->engine.mock.layers == 0) s->engine.mock.layers = s->group.stages;
    return ERR_NONE;
}

int main(int argc, char **argv) {
    static struct host_settings settings;
    struct command_line c = {.region = "local",
                             .device = "cpu",
                             .key = "worker",
                             .max_seqs = 64,
                             .block_tokens = 32,
                             .chunk_tokens = 256,
                             .plans = 2,
                             .queue = 1024,
                             .grace_ms = 30000,
                             .kept_bytes = 256 << 20,
                             .mock_prefill = 20000,
                             .mock_decode_ms = 10,
                             .mock_answer = 0};
    struct error e = {0};
    enum flags_next next = read_flags(&c, argc, argv);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    int asked = process_config(&settings.config, c.config, c.check_config, c.print_config);
    if (asked >= 0) return asked;
    if (settle(&settings, &c, &e) != ERR_NONE) {
        fprintf(stderr, "shoal-worker: %s\n", error_text(&e));
        return 2;
    }
    process_start("shoal-worker", settings.name, c.log_level, &settings.config);
    return settings.group.stage > 0 ? follower_run(&settings) : host_run(&settings);
}
