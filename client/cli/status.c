// shoal status: what the routers say of the cluster. The keys of the JSON form are fixed; new ones come at the end of
// objects.
#include "client/cli/cli.h"
#include "common/base/check.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

// "r1@blue"
static const char *deployment_name(const struct shoal_replica_view *r, char *out, size_t size) {
    snprintf(out, size, "%s%s%s", r->model, r->model[0] && r->deployment[0] ? "@" : "", r->deployment);
    return out;
}

static json_t *router_json(const struct shoal_router_view *r) {
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:b}", "name", r->name, "region", r->region, "pid", (int)r->pid, "http",
                     r->http, "zmq", r->zmq, "reached", (int)r->reached);
}

static json_t *workers_json(const struct shoal_replica_view *r) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->n_workers; i++) {
        const struct shoal_worker *w = &r->workers[i];
        json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:i}", "name", w->name, "stage", (int)w->stage, "rank",
                                              (int)w->rank, "pid", (int)w->pid));
    }
    return list;
}

static json_t *replica_json(const struct shoal_replica_view *r) {
    char deployment[2 * SHOAL_NAME_SIZE];
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:o}", "name", r->name, "region", r->region, "deployment",
                          deployment_name(r, deployment, sizeof deployment), "state", r->state, "running", (int)r->running,
                          "queued_tokens", (json_int_t)r->queued_tokens, "workers", workers_json(r));
    json_t *more =
        json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:s}", "zone", r->zone, "model", r->model, "suspect",
                  (int)r->suspect, "queued", (json_int_t)r->queued, "blocks_free", (json_int_t)r->blocks_free,
                  "blocks_total", (json_int_t)r->blocks_total, "prefill_rate", (double)r->prefill_rate, "decode_rate",
                  (double)r->decode_rate, "decoded_total", (json_int_t)r->decoded_total, "prefilled_total",
                  (json_int_t)r->prefilled_total, "fingerprint", r->fingerprint);
    json_object_update(o, more);
    json_decref(more);
    json_object_set_new(o, "deadline_ms", json_integer(r->deadline_ms));
    json_object_set_new(o, "store", json_string(r->store));
    json_object_set_new(o, "reason", json_string(r->reason));
    return o;
}

static void print_json(const struct shoal_cluster *c) {
    json_t *routers = json_array(), *replicas = json_array();
    for (uint32_t i = 0; i < c->n_routers; i++) json_array_append_new(routers, router_json(&c->routers[i]));
    for (uint32_t i = 0; i < c->n_replicas; i++) json_array_append_new(replicas, replica_json(&c->replicas[i]));
    json_t *all = json_pack("{s:o, s:o}", "routers", routers, "replicas", replicas);
    CHECK(all != NULL);
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

static void print_table(const struct shoal_cluster *c) {
    printf("%-16s %-16s %8s  %-24s %s\n", "ROUTER", "REGION", "PID", "HTTP", "ZMQ");
    for (uint32_t i = 0; i < c->n_routers; i++) {
        const struct shoal_router_view *r = &c->routers[i];
        printf("%-16s %-16s %8u  %-24s %s%s\n", r->name, r->region, r->pid, r->http, r->zmq,
               r->reached ? "" : "  (not reached)");
    }
    printf("\n%-16s %-16s %-16s %-9s %7s %6s %9s %6s %7s  %s\n", "REPLICA", "REGION", "DEPLOYMENT", "STATE", "RUNNING",
           "QUEUED", "PREFILL", "BLOCKS", "TOK/S", "WORKERS (PID)");
    for (uint32_t i = 0; i < c->n_replicas; i++) {
        const struct shoal_replica_view *r = &c->replicas[i];
        char deployment[2 * SHOAL_NAME_SIZE];
        uint32_t used = r->blocks_total ? 100 - (uint32_t)((uint64_t)r->blocks_free * 100 / r->blocks_total) : 0;
        printf("%-16s %-16s %-16s %-9s %7u %6u %9" PRIu64 " %5u%% %7.0f ", r->name, r->region,
               deployment_name(r, deployment, sizeof deployment), r->suspect ? "suspect" : r->state, r->running, r->queued,
               r->queued_tokens, used, (double)r->decode_rate);
        for (uint32_t k = 0; k < r->n_workers; k++) printf(" %s (%u)", r->workers[k].name, r->workers[k].pid);
        printf("%s%s\n", r->reason[0] ? "  " : "", r->reason);
    }
    if (c->n_replicas == 0) printf("none yet\n");
}

int cmd_status(int argc, char **argv) {
    struct cli_where where = {0};
    bool json = false;
    uint32_t timeout_ms = 2000;
    const struct flag flags[] = {
        {.name = "json", .kind = FLAG_BOOL, .target = &json, .help = "print one JSON object"},
        {.name = "timeout",
         .kind = FLAG_DURATION,
         .target = &timeout_ms,
         .value = "TIME",
         .min = 1,
         .help = "wait for routers so long"},
        CLI_WHERE_FLAGS(where),
    };
    const struct flag_spec spec = {
        .program = "shoal status",
        .summary = "Routers, replicas and workers of the cluster, as its routers see them now.",
        .examples = "  shoal status\n  shoal status --json | jq '.replicas[].state'\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    struct shoal *s;
    int code = cli_open(&where, &s);
    if (code != 0) return code;
    struct shoal_cluster *c;
    struct shoal_failure why;
    if (shoal_cluster(s, timeout_ms, &c, &why) != 0) {
        code = cli_fail(EXIT_USAGE, &why);
    } else {
        (json ? print_json : print_table)(c);
        shoal_cluster_free(c);
    }
    shoal_close(s);
    return code;
}
