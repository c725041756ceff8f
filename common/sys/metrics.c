#include "common/sys/metrics.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/utf8.h"
#include "common/sys/version.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double METRIC_SECONDS[15] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

struct series {
    const struct metric_spec *spec;
    char *labels;              // `a="x",b="y"`, escaped; "" without labels
    _Atomic uint64_t count;    // counters; histograms: not used
    _Atomic uint64_t value;    // gauges, histograms' sum: the bits of a double
    _Atomic uint64_t *buckets; // histograms: n_buckets + 1, not cumulative
};

struct metric {
    struct metric_spec spec;
    uint32_t n_labels, n_series;
    struct series **series; // series_max + 1: the last may be "other"
};

struct metrics {
    struct metric **metrics;
    uint32_t n;
};

static bool valid_name(const char *s, bool colon) {
    if (!isalpha((unsigned char)*s) && *s != '_') return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_' && !(colon && *s == ':')) return false;
    return true;
}

struct metrics *metrics_create(void) {
    static const struct metric_spec build = {.name = "shoal_build_info",
                                             .help = "The build of this program; always 1.",
                                             .kind = METRIC_GAUGE,
                                             .labels = {"version", "compiler"}};
    struct metrics *m = xcalloc(1, sizeof *m);
    series_set(METRIC_SERIES(metrics_add(m, &build), shoal_version(), shoal_compiler()), 1);
    return m;
}

static void series_free(struct series *s) {
    free(s->labels);
    free(s->buckets);
    free(s);
}

void metrics_destroy(struct metrics **m) {
    if (*m == NULL) return;
    for (uint32_t i = 0; i < (*m)->n; i++) {
        struct metric *metric = (*m)->metrics[i];
        for (uint32_t j = 0; j < metric->n_series; j++) series_free(metric->series[j]);
        free(metric->series);
        free(metric);
    }
    free((*m)->metrics);
    free(*m);
    *m = NULL;
}

struct metric *metrics_add(struct metrics *m, const struct metric_spec *spec) {
    CHECK(valid_name(spec->name, true));
    for (uint32_t i = 0; i < m->n; i++) CHECK(strcmp(m->metrics[i]->spec.name, spec->name) != 0);
    CHECK(spec->n_buckets <= METRIC_BUCKETS_MAX);
    for (uint32_t i = 1; i < spec->n_buckets; i++) CHECK(spec->buckets[i - 1] < spec->buckets[i]);
    struct metric *metric = xcalloc(1, sizeof *metric);
    metric->spec = *spec;
    while (metric->n_labels < METRIC_LABELS_MAX && spec->labels[metric->n_labels])
        CHECK(valid_name(spec->labels[metric->n_labels++], false));
    if (metric->spec.series_max == 0) metric->spec.series_max = METRIC_SERIES_DEFAULT;
    if (metric->spec.scale == 0) metric->spec.scale = 1;
    metric->series = xcalloc(metric->spec.series_max + 1, sizeof *metric->series);
    m->metrics = xrealloc(m->metrics, (m->n + 1) * sizeof *m->metrics);
    return m->metrics[m->n++] = metric;
}

// `name="value"` with the three escapes of the format; what is no UTF-8 becomes '?', what is too long is cut between
// characters.
static void put_label(struct buf *out, const char *name, const char *value) {
    if (out->len) buf_char(out, ',');
    buf_str(out, name);
    buf_str(out, "=\"");
    size_t len = strlen(value);
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_length((const unsigned char *)value + i, len - i);
        if (i + n > METRIC_LABEL_VALUE_MAX) break;
        if (n == 0)
            buf_char(out, '?'), n = 1;
        else if (value[i] == '\n')
            buf_str(out, "\\n");
        else if (value[i] == '"' || value[i] == '\\')
            buf_char(out, '\\'), buf_char(out, value[i]);
        else
            buf_append(out, value + i, n);
    }
    buf_char(out, '"');
}

// The labels' text; values NULL stands for "other" everywhere. The caller frees it.
static char *labels_text(const struct metric *metric, const char *const *values) {
    struct buf text = {0};
    for (uint32_t i = 0; i < metric->n_labels; i++) put_label(&text, metric->spec.labels[i], values ? values[i] : "other");
    return buf_take(&text);
}

static struct series *find(const struct metric *metric, const char *labels, uint32_t *index) {
    for (uint32_t i = 0; i < metric->n_series; i++)
        if (strcmp(metric->series[i]->labels, labels) == 0) return *index = i, metric->series[i];
    return NULL;
}

struct series *metric_series(struct metric *metric, const char *const *values) {
    uint32_t index;
    CHECK(metric->n_labels == 0 || values != NULL);
    char *labels = labels_text(metric, values);
    struct series *s = find(metric, labels, &index);
    if (s == NULL && metric->n_series >= metric->spec.series_max) {
        free(labels);
        labels = labels_text(metric, NULL);
        s = find(metric, labels, &index);
    }
    if (s != NULL) {
        free(labels);
        return s;
    }
    s = xcalloc(1, sizeof *s);
    s->spec = &metric->spec;
    s->labels = labels;
    if (metric->spec.kind == METRIC_HISTOGRAM) s->buckets = xcalloc(metric->spec.n_buckets + 1, sizeof *s->buckets);
    return metric->series[metric->n_series++] = s;
}

void metric_forget(struct metric *metric, const char *const *values) {
    uint32_t index;
    char *labels = labels_text(metric, values), *other = labels_text(metric, NULL);
    struct series *s = strcmp(labels, other) == 0 ? NULL : find(metric, labels, &index);
    if (s) {
        series_free(s);
        memmove(metric->series + index, metric->series + index + 1, (metric->n_series - index - 1) * sizeof *metric->series);
        metric->n_series--;
    }
    free(labels);
    free(other);
}

static uint64_t bits_of(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void add_double(_Atomic uint64_t *at, double by) {
    uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(at, &old, bits_of(double_of(old) + by), memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void series_add(struct series *s, uint64_t n) {
    CHECK(s->spec->kind == METRIC_COUNTER);
    atomic_fetch_add_explicit(&s->count, n, memory_order_relaxed);
}

void series_set(struct series *s, double value) {
    CHECK(s->spec->kind == METRIC_GAUGE);
    atomic_store_explicit(&s->value, bits_of(value), memory_order_relaxed);
}

void series_shift(struct series *s, double by) {
    CHECK(s->spec->kind == METRIC_GAUGE);
    add_double(&s->value, by);
}

void series_observe(struct series *s, double v) {
    CHECK(s->spec->kind == METRIC_HISTOGRAM);
    uint32_t i = 0;
    while (i < s->spec->n_buckets && !(v <= s->spec->buckets[i])) i++;
    atomic_fetch_add_explicit(&s->buckets[i], 1, memory_order_relaxed);
    add_double(&s->value, v);
}

uint64_t series_count(const struct series *s) {
    if (s->spec->kind != METRIC_HISTOGRAM) return atomic_load_explicit(&s->count, memory_order_relaxed);
    uint64_t total = 0;
    for (uint32_t i = 0; i <= s->spec->n_buckets; i++) total += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
    return total;
}

double series_value(const struct series *s) { return double_of(atomic_load_explicit(&s->value, memory_order_relaxed)); }

static void put_double(struct buf *out, double v) {
    char text[40];
    if (isnan(v) || isinf(v)) {
        buf_str(out, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
        return;
    }
    snprintf(text, sizeof text, "%.15g", v);
    if (strtod(text, NULL) != v) snprintf(text, sizeof text, "%.17g", v);
    buf_str(out, text);
}

static void put_sample(struct buf *out, const struct series *s, const char *suffix, double value) {
    buf_printf(out, "%s%s", s->spec->name, suffix);
    if (s->labels[0]) buf_printf(out, "{%s}", s->labels);
    buf_char(out, ' ');
    put_double(out, value);
    buf_char(out, '\n');
}

static void put_histogram(struct buf *out, const struct series *s) {
    uint64_t sum = 0; // the count is the sum of the buckets just read, so that both agree while others observe
    for (uint32_t i = 0; i <= s->spec->n_buckets; i++) {
        sum += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"", s->spec->name, s->labels, s->labels[0] ? "," : "");
        put_double(out, i < s->spec->n_buckets ? s->spec->buckets[i] : INFINITY);
        buf_printf(out, "\"} %" PRIu64 "\n", sum);
    }
    put_sample(out, s, "_sum", series_value(s));
    put_sample(out, s, "_count", (double)sum);
}

void metrics_write(struct metrics *m, struct buf *out) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    for (uint32_t i = 0; i < m->n; i++) {
        const struct metric *metric = m->metrics[i];
        const struct metric_spec *spec = &metric->spec;
        if (metric->n_series == 0) continue;
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", spec->name, spec->help, spec->name, kinds[spec->kind]);
        for (uint32_t j = 0; j < metric->n_series; j++) {
            const struct series *s = metric->series[j];
            if (spec->kind == METRIC_HISTOGRAM)
                put_histogram(out, s);
            else
                put_sample(out, s, "", spec->kind == METRIC_GAUGE ? series_value(s) : (double)series_count(s) * spec->scale);
        }
    }
}
