#include "client/bench/report.h"

#include "common/base/check.h"

#include <jansson.h>
#include <stdlib.h>

static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

struct row {
    const char *key, *label;
    struct samples *samples;
};

static void rows_of(struct load_result *r, struct row out[3]) {
    out[0] = (struct row){"ttft_ms", "time to first token", &r->ttft};
    out[1] = (struct row){"itl_ms", "inter-token latency", &r->itl};
    out[2] = (struct row){"e2e_ms", "end to end", &r->e2e};
}

static double per_second(double n, const struct load_result *r) { return r->seconds > 0 ? n / r->seconds : 0; }
static double share(uint64_t n, uint64_t of) { return of ? 100.0 * (double)n / (double)of : 0; }

static bool has_objective(const struct load_objective *o) { return o->ttft_ms > 0 || o->itl_ms > 0 || o->e2e_ms > 0; }

static void append_objective(struct buf *out, const struct load_objective *o) {
    const char *comma = "";
    if (o->ttft_ms > 0) buf_printf(out, "first token within %g ms", o->ttft_ms), comma = ", ";
    if (o->itl_ms > 0) buf_printf(out, "%s%g ms between tokens", comma, o->itl_ms), comma = ", ";
    if (o->e2e_ms > 0) buf_printf(out, "%send within %g ms", comma, o->e2e_ms);
}

// --- for people

static void table_errors(struct buf *out, const struct load_result *r) {
    for (uint32_t i = 0; i < r->n_errors; i++)
        buf_printf(out, "  %-28s %10llu\n", r->errors[i].kind, (unsigned long long)r->errors[i].n);
}

void report_table(struct buf *out, struct load_result *r, const struct report_about *about) {
    struct row rows[3];
    rows_of(r, rows);
    buf_printf(out, "%s\n%s%s\n\n", about->target, about->shape,
               r->interrupted ? "; interrupted: what there is so far" : "");
    buf_printf(out, "requests   %llu measured of %llu sent, %llu complete, %llu failed (%.2f %%), in %.1f s\n",
               (unsigned long long)r->sent, (unsigned long long)r->sent_all, (unsigned long long)r->complete,
               (unsigned long long)r->failed, share(r->failed, r->sent), r->seconds);
    buf_printf(out, "throughput %.2f requests/s, %.1f output tokens/s, %.1f prompt tokens/s (%.1f %% of them cached)\n",
               per_second((double)r->complete, r), per_second((double)r->output_tokens, r),
               per_second((double)r->prompt_tokens, r), share(r->cached_tokens, r->prompt_tokens));
    if (has_objective(about->objective)) {
        buf_printf(out, "goodput    %.2f requests/s, %.2f %% of those sent: ", per_second((double)r->good, r),
                   share(r->good, r->sent));
        append_objective(out, about->objective);
        buf_char(out, '\n');
    }
    buf_printf(out, "\n%-22s %10s", "milliseconds", "mean");
    for (size_t q = 0; q < ARRAY_LEN(quantiles); q++) buf_printf(out, " %10s", quantiles[q].name);
    buf_printf(out, " %10s\n", "max");
    for (int i = 0; i < 3; i++) {
        buf_printf(out, "%-22s %10.2f", rows[i].label, samples_mean(rows[i].samples));
        for (size_t q = 0; q < ARRAY_LEN(quantiles); q++)
            buf_printf(out, " %10.2f", samples_quantile(rows[i].samples, quantiles[q].q));
        buf_printf(out, " %10.2f\n", (double)rows[i].samples->max);
    }
    if (r->n_errors) buf_str(out, "\nerrors\n");
    table_errors(out, r);
    if (r->lag_max_ms > 50)
        buf_printf(
            out, "\nA request was sent %.0f ms late: this machine could not keep up with the load, and latencies say so.\n",
            r->lag_max_ms);
}

// --- for programs

static json_t *json_samples(struct samples *s) {
    json_t *o = json_object();
    json_object_set_new(o, "n", json_integer((json_int_t)s->seen));
    json_object_set_new(o, "mean", json_real(samples_mean(s)));
    for (size_t q = 0; q < ARRAY_LEN(quantiles); q++)
        json_object_set_new(o, quantiles[q].name, json_real(samples_quantile(s, quantiles[q].q)));
    json_object_set_new(o, "max", json_real((double)s->max));
    return o;
}

static json_t *json_counts(const struct load_result *r) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b}", "sent_all", (json_int_t)r->sent_all, "sent",
                     (json_int_t)r->sent, "complete", (json_int_t)r->complete, "failed", (json_int_t)r->failed, "good",
                     (json_int_t)r->good, "prompt_tokens", (json_int_t)r->prompt_tokens, "cached_tokens",
                     (json_int_t)r->cached_tokens, "output_tokens", (json_int_t)r->output_tokens, "seconds", r->seconds,
                     "lag_max_ms", r->lag_max_ms, "interrupted", (int)r->interrupted);
}

void report_json(struct buf *out, struct load_result *r, const struct report_about *about) {
    const struct load_objective *o = about->objective;
    struct row rows[3];
    rows_of(r, rows);
    json_t *root = json_counts(r), *errors = json_object(), *timeline = json_array();
    json_object_set_new(root, "target", json_string(about->target));
    json_object_set_new(root, "shape", json_string(about->shape));
    json_object_set_new(root, "requests_per_s", json_real(per_second((double)r->complete, r)));
    json_object_set_new(root, "output_tokens_per_s", json_real(per_second((double)r->output_tokens, r)));
    json_object_set_new(root, "goodput_per_s", json_real(per_second((double)r->good, r)));
    json_object_set_new(root, "objective",
                        json_pack("{s:f, s:f, s:f}", "ttft_ms", o->ttft_ms, "itl_ms", o->itl_ms, "e2e_ms", o->e2e_ms));
    for (int i = 0; i < 3; i++) json_object_set_new(root, rows[i].key, json_samples(rows[i].samples));
    for (uint32_t i = 0; i < r->n_errors; i++)
        json_object_set_new(errors, r->errors[i].kind, json_integer((json_int_t)r->errors[i].n));
    json_object_set_new(root, "errors", errors);
    for (uint32_t i = 0; i < r->n_timeline; i++)
        json_array_append_new(timeline, json_pack("{s:i, s:i, s:i}", "sent", (int)r->timeline[i].sent, "tokens",
                                                  (int)r->timeline[i].tokens, "running", (int)r->timeline[i].running));
    json_object_set_new(root, "timeline", timeline);
    char *text = json_dumps(root, JSON_INDENT(2));
    buf_str(out, text);
    buf_char(out, '\n');
    free(text);
    json_decref(root);
}
