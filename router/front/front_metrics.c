#include "router/front/front_metrics.h"

#include "common/base/check.h"
#include "common/sys/metrics.h"

#include <stdlib.h>

// One row per number of the core. Counters only grow there, so what is added here is the difference since the last look.
#define CORE_COUNTERS(X)                                                                                                    \
    X(requests, "requests_total", "Requests that asked for an answer")                                                      \
    X(accepted, "accepted_total", "Requests accepted by a worker")                                                          \
    X(refused, "refused_total", "Requests refused at once")                                                                 \
    X(completed, "completed_total", "Streams that reached their end")                                                       \
    X(failed, "failed_total", "Streams that ended in an error")                                                             \
    X(cancelled, "cancelled_total", "Streams that their client gave up")                                                    \
    X(attached, "attached_total", "Streams that a client asked for by name and some replica still had")                     \
    X(not_found, "attach_not_found_total", "Streams that had to be made anew")                                              \
    X(placements, "placements_total", "Attempts made")                                                                      \
    X(replacements, "replacements_total", "Attempts after the first of a stream")                                           \
    X(records, "tokens_total", "Token records received")                                                                    \
    X(duplicates_dropped, "duplicate_tokens_dropped_total", "Messages that held nothing new")                               \
    X(stale_dropped, "stale_messages_dropped_total", "Messages of superseded attempts")                                     \
    X(gaps, "gaps_total", "Gaps answered with a Resend")                                                                    \
    X(protocol_errors, "protocol_errors_total", "Messages against the grammar")                                             \
    X(offers, "move_offers_total", "Streams taken over from workers that must go")                                          \
    X(moved, "moves_total", "Of them, those that another replica has accepted")                                             \
    X(poisoned, "poisoned_total", "Requests refused because they killed workers")                                           \
    X(suspects, "links_suspect_total", "Links that fell silent")                                                            \
    X(deaths, "links_dead_total", "Links given up")

#define CORE_GAUGES(X)                                                                                                      \
    X(sessions, "sessions", "Streams held now")                                                                             \
    X(queued, "queue_depth", "Streams waiting for a replica")                                                               \
    X(queued_tokens, "queue_tokens", "Their prompt tokens")                                                                 \
    X(links, "links", "Connections over ZeroMQ")                                                                            \
    X(replicas_ready, "replicas_ready", "Replicas of this region that take work")                                           \
    X(held_bytes, "held_bytes", "Bytes of the requests and token records held")

struct front_metrics {
    struct metrics *registry;
#define X(field, name, help) struct series *field;
    CORE_COUNTERS(X)
    CORE_GAUGES(X)
#undef X
    struct metric *ended;
    struct series *first_token, *duration;
};

static struct series *add(struct metrics *m, const char *name, const char *help, enum metric_kind kind) {
    struct metric_spec spec = {.name = name, .help = help, .kind = kind};
    if (kind == METRIC_HISTOGRAM) spec.buckets = METRIC_SECONDS, spec.n_buckets = ARRAY_LEN(METRIC_SECONDS);
    return metric_series(metrics_add(m, &spec), NULL);
}

struct front_metrics *front_metrics_create(void) {
    struct front_metrics *m = xcalloc(1, sizeof *m);
    m->registry = metrics_create();
#define X(field, name, help) m->field = add(m->registry, "shoal_router_" name, help, METRIC_COUNTER);
    CORE_COUNTERS(X)
#undef X
#define X(field, name, help) m->field = add(m->registry, "shoal_router_" name, help, METRIC_GAUGE);
    CORE_GAUGES(X)
#undef X
    struct metric_spec ended = {.name = "shoal_router_http_requests_total",
                                .help = "Requests over HTTP by how they ended",
                                .kind = METRIC_COUNTER,
                                .labels = {"how", NULL}};
    m->ended = metrics_add(m->registry, &ended);
    m->first_token = add(m->registry, "shoal_router_time_to_first_token_seconds", "From the request to its first token",
                         METRIC_HISTOGRAM);
    m->duration =
        add(m->registry, "shoal_router_request_seconds", "From the request to the end of its answer", METRIC_HISTOGRAM);
    return m;
}

void front_metrics_destroy(struct front_metrics **m) {
    if (*m) metrics_destroy(&(*m)->registry);
    free(*m);
    *m = NULL;
}

void front_metrics_first_token(struct front_metrics *m, double seconds) { series_observe(m->first_token, seconds); }

void front_metrics_ended(struct front_metrics *m, const char *how, double seconds) {
    series_add(METRIC_SERIES(m->ended, how), 1);
    series_observe(m->duration, seconds);
}

void front_metrics_write(struct front_metrics *m, const struct router_core *core, struct buf *out) {
    struct router_counters c;
    router_core_counters(core, &c);
#define X(field, name, help) series_add(m->field, c.field - series_count(m->field));
    CORE_COUNTERS(X)
#undef X
#define X(field, name, help) series_set(m->field, (double)c.field);
    CORE_GAUGES(X)
#undef X
    metrics_write(m->registry, out);
}
