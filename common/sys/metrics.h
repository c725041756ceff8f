// Metrics in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4).
// A metric is a name with a kind and label names; a series is one combination of label values. Registration, metric_series,
// metric_forget and metrics_write belong to the thread that owns the registry; updates through a series handle are relaxed
// atomics and may come from any thread. Every metric has a bound on its series: past it, all new combinations share one
// series whose label values are "other". Names: shoal_<program>_<what>_<seconds|bytes|total>.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct buf;
struct metrics;
struct metric;
struct series;

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum { METRIC_LABELS_MAX = 4, METRIC_BUCKETS_MAX = 24, METRIC_LABEL_VALUE_MAX = 127, METRIC_SERIES_DEFAULT = 64 };

struct metric_spec {
    const char *name; // strings are kept, not copied: use literals
    const char *help;
    enum metric_kind kind;
    const char *labels[METRIC_LABELS_MAX]; // label names, then NULL
    uint32_t series_max;                   // 0: METRIC_SERIES_DEFAULT
    double scale;                          // counters count integers; the written value is count × scale. 0: 1
    const double *buckets;                 // histograms: upper bounds, rising, without +Inf; kept, not copied
    uint32_t n_buckets;
};

struct metrics *metrics_create(void); // registers shoal_build_info{version,compiler} 1
void metrics_destroy(struct metrics **m);

// A name or label that Prometheus would refuse, or a name registered twice, is a bug (CHECK). The metric lives as long as m.
struct metric *metrics_add(struct metrics *m, const struct metric_spec *spec);
// The series of these label values (as many as the metric has labels; NULL without labels), made when new. The handle is
// valid until metric_forget or metrics_destroy. Values longer than METRIC_LABEL_VALUE_MAX are cut.
struct series *metric_series(struct metric *metric, const char *const *values);
#define METRIC_SERIES(metric, ...) metric_series(metric, (const char *const[]){__VA_ARGS__})
// Drops one series (a worker that left); the handle dies with it. Unknown values and the shared "other" are left alone.
void metric_forget(struct metric *metric, const char *const *values);

void series_add(struct series *s, uint64_t n);   // counters
void series_set(struct series *s, double value); // gauges
void series_shift(struct series *s, double by);  // gauges: add, may be negative
void series_observe(struct series *s, double v); // histograms
uint64_t series_count(const struct series *s);   // counters: the count; histograms: observations. For tests and status
double series_value(const struct series *s);     // gauges

void metrics_write(struct metrics *m, struct buf *out);

// Bounds for latencies: 1 ms to 60 s.
extern const double METRIC_SECONDS[15];
