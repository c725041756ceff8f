// The report as one HTML file: tables, the distributions of the three latencies, and the run second by second. No script, no
// other file: it can be mailed and kept.
#include "client/bench/report.h"

#include "common/base/check.h"

#include <math.h>

enum { WIDTH = 720, HEIGHT = 220, LEFT = 56, BOTTOM = 28, TOP = 10, POINTS = 200 };

static void append_escaped(struct buf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            buf_str(out, "&lt;");
        else if (*text == '&')
            buf_str(out, "&amp;");
        else
            buf_char(out, *text);
    }
}

// --- plots

// One, two or five times a power of ten, so that at most five lines fit below max.
static double step_below(double max) {
    double unit = pow(10, floor(log10(max > 0 ? max : 1)));
    return max / unit < 1.5 ? unit / 5 : max / unit < 4 ? unit / 2 : unit;
}

static double x_of(double share) { return LEFT + share * (WIDTH - LEFT - 10); }
static double y_of(double share) { return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM); }

static void begin_plot(struct buf *out, const char *title, double y_max, const char *y_unit) {
    buf_printf(out, "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d %d\">", title, WIDTH, HEIGHT);
    for (double y = 0; y <= y_max; y += step_below(y_max))
        buf_printf(out,
                   "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                   "text-anchor=\"end\">%g%s</text>",
                   LEFT, WIDTH - 10, y_of(y / y_max), y_of(y / y_max), LEFT - 6, y_of(y / y_max) + 4, y, y_unit);
}

static void label_x(struct buf *out, double share, const char *format, double value) {
    buf_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x_of(share), HEIGHT - 8);
    buf_printf(out, format, value);
    buf_str(out, "</text>");
}

static void end_plot(struct buf *out) { buf_str(out, "</svg></figure>\n"); }

// Latency by share of requests; the axis stretches the end: half of it is one request in ten.
static void plot_quantiles(struct buf *out, const char *title, struct samples *s) {
    static const double marks[] = {0, 0.5, 0.9, 0.99, 0.999};
    double nines = s->n > 1000 ? 3 : s->n > 100 ? 2 : 1, top = samples_quantile(s, 1 - pow(10, -nines));
    if (s->n == 0 || top <= 0) return;
    begin_plot(out, title, top * 1.05, " ms");
    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        double at = -log10(1 - marks[i]) / nines;
        if (at <= 1) label_x(out, at, "%g %%", marks[i] * 100);
    }
    buf_str(out, "<polyline points=\"");
    for (int i = 0; i <= POINTS; i++) {
        double at = (double)i / POINTS, q = 1 - pow(10, -nines * at);
        buf_printf(out, "%.1f,%.1f ", x_of(at), y_of(samples_quantile(s, q) / (top * 1.05)));
    }
    buf_str(out, "\"/>");
    end_plot(out);
}

static double value_at(const struct load_second *s, int what) {
    return what == 0 ? s->tokens : what == 1 ? s->running : s->sent;
}

static void plot_timeline(struct buf *out, const char *title, const struct load_result *r, int what) {
    double max = 0;
    for (uint32_t i = 0; i < r->n_timeline; i++) max = fmax(max, value_at(&r->timeline[i], what));
    if (r->n_timeline < 2 || max <= 0) return;
    begin_plot(out, title, max * 1.05, "");
    for (int i = 0; i <= 4; i++) label_x(out, i / 4.0, "%.0f s", (r->n_timeline - 1) * i / 4.0);
    buf_str(out, "<polyline points=\"");
    for (uint32_t i = 0; i < r->n_timeline; i++)
        buf_printf(out, "%.1f,%.1f ", x_of((double)i / (r->n_timeline - 1)),
                   y_of(value_at(&r->timeline[i], what) / (max * 1.05)));
    buf_str(out, "\"/>");
    end_plot(out);
}

static const char style[] =
    "body{font:15px system-ui,sans-serif;max-width:760px;margin:2em auto;color:#1d2733}pre{font-size:13px;line-height:1.4;"
    "overflow-x:auto}figure{margin:1.5em "
    "0}figcaption{font-weight:600}svg{width:100%}.grid{stroke:#dde3ea}text{font-size:11px;"
    "fill:#5b6b7c}polyline{fill:none;stroke:#0b6bcb;stroke-width:1.6}";

void report_html(struct buf *out, struct load_result *r, const struct report_about *about) {
    struct buf table = {0};
    report_table(&table, r, about);
    buf_printf(out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>shoal bench</title><style>%s</style>\n",
               style);
    buf_str(out, "<h1>shoal bench</h1><pre>");
    append_escaped(out, table.data);
    buf_str(out, "</pre>\n<p>Latencies count from when a request was meant to be sent, whether or not it could be.</p>\n");
    plot_quantiles(out, "Time to first token, by share of requests", &r->ttft);
    plot_quantiles(out, "Inter-token latency, by share of tokens", &r->itl);
    plot_quantiles(out, "End to end, by share of requests", &r->e2e);
    plot_timeline(out, "Pieces of text received per second", r, 0);
    plot_timeline(out, "Requests in progress", r, 1);
    plot_timeline(out, "Requests sent per second", r, 2);
    buf_str(out, "</html>\n");
    buf_free(&table);
}
