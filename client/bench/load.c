#include "client/bench/load.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/sys/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_MS = 250, BURST = 256 };

struct running {
    struct load *load;
    int64_t meant_us, first_us, last_us; // first 0: no token yet
    uint32_t tokens;
    bool measured;
};

struct load {
    struct load_options options;
    struct target target;
    struct load_result result;
    struct workload workload;
    struct workload_request next; // the one to be sent
    struct buf prompt;
    bool has_next, sending, over;
    int64_t begin_us, first_us; // first_us: the first measured one's time
    uv_timer_t timer, progress;
    int open_handles;
    void (*on_end)(void *ctx);
};

static double ms_between(int64_t from_us, int64_t to_us) { return (double)(to_us - from_us) / 1000; }

static struct load_second *second_of(struct load *l, int64_t now_us) {
    uint32_t at = (uint32_t)((now_us - l->begin_us) / 1000000);
    struct load_result *r = &l->result;
    if (at >= r->n_timeline) {
        r->timeline = xrealloc(r->timeline, (at + 1) * sizeof *r->timeline);
        memset(r->timeline + r->n_timeline, 0, (at + 1 - r->n_timeline) * sizeof *r->timeline);
        r->n_timeline = at + 1;
    }
    return &r->timeline[at];
}

// --- answers

static void on_tokens(void *ctx, void *user) {
    struct load *l = ctx;
    struct running *q = user;
    int64_t now = clock_us();
    q->tokens++;
    second_of(l, now)->tokens++;
    if (q->measured && q->first_us == 0) samples_add(&l->result.ttft, ms_between(q->meant_us, now));
    if (q->measured && q->first_us > 0) samples_add(&l->result.itl, ms_between(q->last_us, now));
    if (q->first_us == 0) q->first_us = now;
    q->last_us = now;
}

static void count_error(struct load_result *r, const char *kind) {
    uint32_t i = 0;
    while (i < r->n_errors && strcmp(r->errors[i].kind, kind) != 0 && i < LOAD_ERRORS_MAX - 1) i++;
    if (i == r->n_errors) {
        r->n_errors++;
        snprintf(r->errors[i].kind, sizeof r->errors[i].kind, "%s", i == LOAD_ERRORS_MAX - 1 ? "other" : kind);
    }
    r->errors[i].n++;
}

static bool is_good(const struct load_objective *o, const struct running *q, int64_t now) {
    double itl = q->tokens > 1 ? ms_between(q->first_us, q->last_us) / (q->tokens - 1) : 0;
    bool in_time = o->ttft_ms == 0 || (q->first_us > 0 && ms_between(q->meant_us, q->first_us) <= o->ttft_ms);
    return in_time && (o->itl_ms == 0 || itl <= o->itl_ms) && (o->e2e_ms == 0 || ms_between(q->meant_us, now) <= o->e2e_ms);
}

static void measure_end(struct load *l, const struct running *q, const struct target_end *end, int64_t now) {
    struct load_result *r = &l->result;
    if (r->interrupted && !end->complete) { // by us: neither good nor bad
        r->sent--;
        return;
    }
    r->seconds = (double)(now - l->first_us) / 1e6;
    if (!end->complete) {
        r->failed++;
        count_error(r, end->error);
        return;
    }
    r->complete++;
    r->prompt_tokens += end->prompt_tokens;
    r->cached_tokens += end->cached_tokens;
    r->output_tokens += end->output_tokens ? end->output_tokens : q->tokens;
    samples_add(&r->e2e, ms_between(q->meant_us, now));
    r->good += is_good(&l->options.objective, q, now);
}

static void on_timer(uv_timer_t *timer);
static void finish_when_over(struct load *l);

static void on_end(void *ctx, void *user, const struct target_end *end) {
    struct load *l = ctx;
    struct running *q = user;
    int64_t now = clock_us();
    if (q->measured) measure_end(l, q, end, now);
    l->result.ended_all++;
    l->result.running--;
    second_of(l, now)->running = (uint32_t)l->result.running;
    free(q);
    if (l->options.concurrency > 0 && l->sending)
        uv_timer_start(&l->timer, on_timer, 0, 0); // not from inside the target's call
    else
        finish_when_over(l);
}

struct target_listener load_listener(struct load *l) {
    return (struct target_listener){l, on_tokens, on_end};
}

// --- requests

static void draw_next(struct load *l) {
    const struct load_options *o = &l->options;
    buf_reset(&l->prompt);
    bool enough = o->requests > 0 && l->result.sent_all >= o->requests;
    l->has_next = !enough && workload_next(&l->workload, &l->next, &l->prompt);
    if (l->has_next && o->concurrency == 0 && o->duration_s > 0 && l->next.at_s >= o->duration_s) l->has_next = false;
    if (!l->has_next) l->sending = false;
}

static void send_one(struct load *l, int64_t meant_us, int64_t now) {
    struct load_result *r = &l->result;
    struct running *q = xcalloc(1, sizeof *q);
    q->load = l, q->meant_us = meant_us;
    q->measured = (double)(meant_us - l->begin_us) / 1e6 >= l->options.warmup_s;
    if (q->measured && r->sent++ == 0) l->first_us = meant_us;
    if (ms_between(meant_us, now) > r->lag_max_ms) r->lag_max_ms = ms_between(meant_us, now);
    r->sent_all++;
    r->running++;
    struct load_second *second = second_of(l, now);
    second->sent++;
    second->running = (uint32_t)r->running;
    struct target_request t = {
        .prompt = l->prompt.data ? l->prompt.data : "",
        .prompt_len = l->prompt.len,
        .output_tokens = l->next.output_tokens,
        .seed = hash_mix(l->options.workload.seed + r->sent_all) >> 1,
        .user = q,
    };
    l->target.start(l->target.self, &t);
    draw_next(l);
}

static void finish_when_over(struct load *l) {
    if (l->sending || l->result.running > 0 || l->over) return;
    l->over = true;
    uv_timer_stop(&l->timer);
    uv_timer_stop(&l->progress);
    l->on_end(l->options.ctx);
}

static void send_closed(struct load *l, int64_t now) {
    const struct load_options *o = &l->options;
    if (o->duration_s > 0 && (double)(now - l->begin_us) / 1e6 >= o->duration_s) l->sending = false;
    while (l->sending && l->result.running < o->concurrency) send_one(l, clock_us(), clock_us());
}

static void send_open(struct load *l, int64_t now) {
    for (int i = 0; l->sending && i < BURST; i++) {
        int64_t at = l->begin_us + (int64_t)(l->next.at_s * 1e6);
        if (at > now) {
            uv_timer_start(&l->timer, on_timer, (uint64_t)((at - now + 999) / 1000), 0);
            return;
        }
        send_one(l, at, now);
    }
    if (l->sending) uv_timer_start(&l->timer, on_timer, 0, 0); // many at once: answers get their turn in between
}

static void send_due(struct load *l) {
    if (l->over) return;
    if (l->options.concurrency > 0)
        send_closed(l, clock_us());
    else if (l->sending)
        send_open(l, clock_us());
    finish_when_over(l);
}

static void on_timer(uv_timer_t *timer) { send_due(timer->data); }

static void on_progress(uv_timer_t *timer) {
    struct load *l = timer->data;
    if (l->options.on_progress) l->options.on_progress(l->options.ctx);
    if (l->options.concurrency > 0) send_due(l); // the duration may be over
}

// --- life

struct load *load_create(const struct load_options *options) {
    struct load *l = xcalloc(1, sizeof *l);
    l->options = *options;
    workload_init(&l->workload, &options->workload);
    CHECK(uv_timer_init(options->loop, &l->timer) == 0 && uv_timer_init(options->loop, &l->progress) == 0);
    l->timer.data = l->progress.data = l;
    l->open_handles = 2;
    return l;
}

void load_run(struct load *l, const struct target *target, void (*when_over)(void *ctx)) {
    l->target = *target;
    l->on_end = when_over;
    l->sending = true;
    l->begin_us = clock_us();
    draw_next(l);
    uv_update_time(l->options.loop);
    uv_timer_start(&l->progress, on_progress, PROGRESS_MS, PROGRESS_MS);
    uv_timer_start(&l->timer, on_timer, 0, 0);
}

void load_interrupt(struct load *l) {
    if (l->over) return;
    l->result.interrupted = true;
    l->sending = false;
    l->target.stop(l->target.self);
    finish_when_over(l);
}

struct load_result *load_result(struct load *l) {
    return &l->result;
}

double load_share_done(const struct load *l) {
    const struct load_options *o = &l->options;
    double by_time = o->duration_s > 0 ? (double)(clock_us() - l->begin_us) / 1e6 / o->duration_s : 0;
    uint64_t n = o->requests ? o->requests : o->workload.trace ? o->workload.trace->n : 0;
    double by_count = n > 0 ? (double)l->result.ended_all / (double)n : 0;
    double share = by_time > by_count ? by_time : by_count;
    return share > 1 ? 1 : share;
}

static void on_closed(uv_handle_t *handle) {
    struct load *l = handle->data;
    if (--l->open_handles > 0) return;
    samples_free(&l->result.ttft), samples_free(&l->result.itl), samples_free(&l->result.e2e);
    free(l->result.timeline);
    buf_free(&l->prompt);
    free(l);
}

void load_destroy(struct load **handle) {
    struct load *l = *handle;
    *handle = NULL;
    if (l == NULL) return;
    uv_close((uv_handle_t *)&l->timer, on_closed);
    uv_close((uv_handle_t *)&l->progress, on_closed);
}
