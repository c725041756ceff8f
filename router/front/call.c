#include "router/front/call.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEXT_BATCH = 64 }; // records rendered between two looks at how much the client has taken

void front_error(struct front *f, struct http_exchange *x, const struct error *e, uint32_t retry_after_ms) {
    const struct error_info *info = error_info(e->id);
    char seconds[16];
    buf_reset(&f->out);
    openai_render_error(&f->out, e);
    if (info->retryable) {
        snprintf(seconds, sizeof seconds, "%u", retry_after_ms ? (retry_after_ms + 999) / 1000 : 1);
        http_add_header(x, "Retry-After", seconds);
    }
    http_respond(x, info->http_status, "application/json", f->out.data, f->out.len);
}

static void mark(struct call *c) {
    if (c->dirty || c->front->over) return;
    c->dirty = true;
    c->next_dirty = c->front->dirty;
    c->front->dirty = c;
}

// --- the client's side of the exchange

static void on_closed(void *ctx) {
    struct call *c = ctx;
    c->x = NULL;
    c->gone = true;
    mark(c);
}

static void on_writable(void *ctx) { mark(ctx); }

// --- ends

static void unlink_call(struct call *c) {
    struct front *f = c->front;
    if (c->prev)
        c->prev->next = c->next;
    else
        f->calls = c->next;
    if (c->next) c->next->prev = c->prev;
    f->n_calls--;
}

// Every way out of a call leads through here.
static void call_end(struct call *c, const char *how, ms_t now) {
    struct front *f = c->front;
    char id[REQUEST_ID_TEXT] = "";
    struct session_view v = {0};
    if (c->feed) {
        v = session_view(c->feed->session);
        request_id_text(&v.key.request, id);
        log_info("request_ended", "request=%s how=%s replica=%s attempt=%u tokens=%u ms=%lld", id, how, v.replica,
                 v.attempt.counter, record_log_count(v.log), (long long)(now - c->started_at));
        feed_leave(f->core, c->feed, c, now);
    }
    front_metrics_ended(f->metrics, how, (double)(now - c->started_at) / 1000.0);
    unlink_call(c);
    free(c);
}

// --- rendering

static void add_headers(struct call *c, const struct session_view *v) {
    char id[REQUEST_ID_TEXT], attempt[16];
    request_id_text(&v->key.request, id);
    http_add_header(c->x, "X-Request-Id", id);
    if (v->replica[0]) {
        http_add_header(c->x, "X-Shoal-Replica", v->replica);
        snprintf(attempt, sizeof attempt, "%u", v->attempt.counter);
        http_add_header(c->x, "X-Shoal-Attempt", attempt);
    }
    if (c->ignored[0]) http_add_header(c->x, "X-Shoal-Ignored", c->ignored);
}

static void name_origin(struct call *c, const struct session_view *v) {
    snprintf(c->answer.replica, sizeof c->answer.replica, "%s", v->replica);
    c->answer.attempt = v->attempt.counter;
    c->answer.seed = v->seed;
    c->answer.fingerprint = v->fingerprint;
    struct stream_id *id = &c->answer.event;
    snprintf(id->fingerprint, sizeof id->fingerprint, "%s", v->fingerprint);
    snprintf(id->replica, sizeof id->replica, "%s", v->replica);
    id->takeover = v->attempt.takeover;
}

static void write_out(struct call *c, ms_t now) {
    struct buf *out = &c->front->out;
    if (out->len > 0) {
        http_stream_write(c->x, out->data, out->len);
        c->written_at = now;
    }
    buf_reset(out);
}

static void begin_stream(struct call *c, const struct session_view *v, ms_t now) {
    add_headers(c, v);
    if (c->behind) {
        char offset[16];
        snprintf(offset, sizeof offset, "%u", c->had.offset);
        http_add_header(c->x, "X-Shoal-Resumed-From", offset);
    }
    http_add_header(c->x, "Cache-Control", "no-cache");
    http_add_header(c->x, "X-Accel-Buffering", "no");
    http_stream_begin(c->x, 200, "text/event-stream; charset=utf-8");
    c->begun = true;
    c->written_at = now;
    name_origin(c, v);
    buf_reset(&c->front->out);
    if (!c->behind) openai_render_start(&c->front->out, &c->answer);
    write_out(c, now);
}

// Passes over what the client has already. False: this is not the stream that it has a part of.
static bool pass_over(struct call *c, const struct session_view *v) {
    struct stream_position *at = &c->answer.event.at;
    const struct stream_position *had = &c->had;
    uint32_t count = record_log_count(v->log);
    bool over = c->outcome == CALL_DONE, passed = at->phase != PHASE_RECORDS || at->offset > had->offset;
    if (!c->behind || passed) return true;
    while (at->offset < had->offset && at->offset < count) {
        struct record r = record_log_get(v->log, at->offset);
        stream_position_record(at, &r);
    }
    if (at->offset < had->offset) return !over;
    if (had->phase == PHASE_RECORDS) return stream_position_equal(at, had);
    if (!over) return count == had->offset;
    stream_position_tail(at, v->done);
    at->phase = had->phase;
    return count == had->offset && stream_position_equal(at, had);
}

static void render_records(struct call *c, const struct session_view *v, ms_t now) {
    uint32_t count = record_log_count(v->log);
    struct stream_position *at = &c->answer.event.at;
    if (c->behind && at->offset < c->had.offset) return;
    while (at->offset < count && http_stream_pending_bytes(c->x) < c->front->options.stream_bytes_max) {
        uint32_t to = count - at->offset > TEXT_BATCH ? at->offset + TEXT_BATCH : count;
        buf_reset(&c->front->out);
        openai_render_records(&c->front->out, &c->answer, v->log, to);
        write_out(c, now);
    }
}

static void stream_failed(struct call *c, const struct error *why, ms_t now) {
    buf_reset(&c->front->out);
    openai_render_stream_error(&c->front->out, why);
    write_out(c, now);
    http_abort(c->x);
    c->x = NULL;
    call_end(c, "failed", now);
}

static void turn_stream(struct call *c, const struct session_view *v, ms_t now) {
    if (!c->begun && !c->accepted) return;
    if (!c->begun) begin_stream(c, v, now);
    name_origin(c, v);
    if (!pass_over(c, v)) {
        struct error lost = {0};
        error_set(&lost, ERR_RESUME_LOST, "the stream cannot go on: it is not what it was up to token %u", c->had.offset);
        stream_failed(c, &lost, now);
        return;
    }
    render_records(c, v, now);
    if (c->answer.event.at.offset < record_log_count(v->log) || c->outcome == CALL_RUNNING) return;
    if (c->outcome == CALL_FAILED) {
        stream_failed(c, &v->rejected->error, now);
        return;
    }
    buf_reset(&c->front->out);
    openai_render_finish(&c->front->out, &c->answer, v->done);
    write_out(c, now);
    http_stream_end(c->x);
    c->x = NULL;
    call_end(c, "done", now);
}

static void turn_body(struct call *c, const struct session_view *v, ms_t now) {
    if (c->outcome != CALL_DONE) return;
    name_origin(c, v);
    add_headers(c, v);
    buf_reset(&c->front->out);
    openai_render_answer(&c->front->out, &c->answer, v->log, v->done);
    http_respond(c->x, 200, "application/json", c->front->out.data, c->front->out.len);
    c->x = NULL;
    call_end(c, "done", now);
}

// An answer that ended in an error is told as one, however much of it there is.
static void note_error_finish(struct call *c, struct session_view *v, struct msg_rejected *as_rejected) {
    if (c->outcome != CALL_DONE || v->done->finish != FINISH_ERROR) return;
    as_rejected->error = v->done->error;
    v->rejected = as_rejected;
    c->outcome = CALL_FAILED;
}

static void take_state(struct call *c) {
    c->accepted = c->accepted || c->feed->accepted;
    if (c->feed->state == FEED_DONE) c->outcome = CALL_DONE;
    if (c->feed->state == FEED_FAILED) c->outcome = CALL_FAILED;
}

void call_turn(struct call *c, ms_t now) {
    c->dirty = false;
    if (c->gone) {
        call_end(c, "disconnected", now);
        return;
    }
    struct session_view v = session_view(c->feed->session);
    struct msg_rejected from_done = {0};
    take_state(c);
    note_error_finish(c, &v, &from_done);
    if (c->first_at == 0 && record_log_count(v.log) > 0) {
        c->first_at = now;
        front_metrics_first_token(c->front->metrics, (double)(now - c->started_at) / 1000.0);
    }
    if (c->outcome == CALL_FAILED && !c->begun) {
        add_headers(c, &v);
        front_error(c->front, c->x, &v.rejected->error, v.rejected->retry_after_ms);
        c->x = NULL;
        call_end(c, "failed", now);
    } else if (c->stream) {
        turn_stream(c, &v, now);
    } else {
        turn_body(c, &v, now);
    }
}

void call_hand_over(struct call *c, ms_t now) {
    struct error e = {0};
    if (c->gone) return;
    if (c->begun) {
        http_abort(c->x);
        c->x = NULL;
        return;
    }
    error_set(&e, ERR_DRAINING, "this router is shutting down: ask again, another one answers");
    front_error(c->front, c->x, &e, 0);
    c->x = NULL;
    call_end(c, "refused", now);
}

void call_wake(struct call *c) { mark(c); }

void call_scan(struct call *c, ms_t now) {
    const struct config_timers *t = &c->front->options.timers;
    if (c->dirty || c->gone || !c->stream) return;
    if (!c->begun) {
        if (now - c->started_at < t->accept_wait_ms) return;
        c->accepted = true; // from here on a refusal is an error event
        mark(c);
    } else if (now - c->written_at >= t->keepalive_ms && http_stream_pending_bytes(c->x) == 0) {
        // One line without a blank one behind it: openai-python would take the empty block for an event.
        http_stream_write(c->x, ": keep-alive\n", 13);
        c->written_at = now;
    }
}

// --- the start

static err_id header_number(const struct http_exchange *x, const char *name, uint32_t *out, struct error *e) {
    const char *text = http_header(x, name);
    if (text == NULL) return ERR_NONE;
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*text == '\0' || *end || v > UINT32_MAX || text[0] == '-')
        return error_set_param(e, ERR_INVALID_ARGUMENT, name, "the header '%s' must be a whole number", name);
    *out = (uint32_t)v;
    return ERR_NONE;
}

static err_id make_generate(const struct http_exchange *x, const struct openai_view *o, struct buf *body,
                            struct msg_generate *g, struct error *e) {
    if (!codec_prompt_encode(o->prompt, body))
        return error_set(e, ERR_TOO_LARGE, "the request is larger than %d bytes", BODY_BYTES_MAX);
    const char *pin = http_header(x, "X-Shoal-Replica");
    if (pin && strlen(pin) > NAME_MAX_BYTES)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "X-Shoal-Replica", "the header 'X-Shoal-Replica' is too long");
    snprintf(g->model, sizeof g->model, "%s", o->model);
    snprintf(g->pin, sizeof g->pin, "%s", pin ? pin : "");
    g->has_seed = o->has_seed;
    g->seed = o->seed;
    g->max_tokens = o->max_tokens;
    g->prompt_bytes = o->prompt_bytes;
    g->body = (const uint8_t *)body->data;
    g->body_len = body->len;
    return header_number(x, "X-Shoal-Deadline-Ms", &g->deadline_ms, e);
}

static struct call *call_create(struct front *f, struct http_exchange *x, const struct openai_view *o,
                                const struct msg_generate *g, const struct comeback *back, ms_t now) {
    struct call *c = xcalloc(1, sizeof *c);
    char id[REQUEST_ID_TEXT];
    request_id_text(&g->key.request, id);
    c->front = f;
    c->x = x;
    c->stream = o->stream;
    c->started_at = c->written_at = now;
    c->answer = (struct openai_answer){.kind = o->kind, .created = clock_wall_ms() / 1000, .logprobs = o->prompt->logprobs};
    c->answer.include_usage = o->include_usage;
    snprintf(c->answer.id, sizeof c->answer.id, "%s-%s", o->kind == OPENAI_CHAT ? "chatcmpl" : "cmpl", id);
    snprintf(c->answer.model, sizeof c->answer.model, "%s", o->model);
    snprintf(c->ignored, sizeof c->ignored, "%s", o->ignored);
    if (o->stream) {
        c->behind = back->behind_event;
        c->had = back->event.at;
        if (c->behind) c->answer.created = back->event.created;
        c->answer.keys = &f->keys;
        snprintf(c->answer.tenant, sizeof c->answer.tenant, "%s", g->tenant);
        c->answer.event.request = g->key.request;
        c->answer.event.created = c->answer.created;
    }
    c->next = f->calls;
    if (f->calls) f->calls->prev = c;
    f->calls = c;
    f->n_calls++;
    return c;
}

// The session's seed is known now, and with it what ids of events say.
static void begin(struct call *c, const struct msg_generate *g) {
    struct msg_generate asked = *g;
    asked.has_seed = true;
    asked.seed = session_view(c->feed->session).seed;
    c->answer.event.seed = asked.seed;
    c->answer.event.asks = generate_asks(&asked);
    mark(c); // what is there already is rendered with the next turn
}

static void refuse(struct front *f, struct http_exchange *x, const struct error *e, uint32_t retry_after_ms) {
    front_metrics_ended(f->metrics, "refused", 0);
    front_error(f, x, e, retry_after_ms);
}

void call_start(struct front *f, struct http_exchange *x, enum openai_kind kind, const struct guard_caller *who) {
    struct error e = {0};
    struct openai_request *request = NULL;
    struct buf body = {0};
    struct msg_generate g = {0};
    size_t len;
    const char *json = http_body(x, &len);
    ms_t now = clock_ms();
    if (openai_request_parse(kind, json, len, &request, &e) != ERR_NONE) {
        refuse(f, x, &e, 0);
        return;
    }
    struct openai_view o = openai_request_view(request);
    struct comeback back;
    snprintf(g.tenant, sizeof g.tenant, "%s", who->tenant);
    if (guard_check_model(f->options.guard, who->tenant, o.model, &e) != ERR_NONE ||
        make_generate(x, &o, &body, &g, &e) != ERR_NONE ||
        comeback_read(x, &o, &f->keys, f->options.config->cluster, &g, &back, &e) != ERR_NONE) {
        refuse(f, x, &e, 0);
    } else {
        struct call *c = call_create(f, x, &o, &g, &back, now);
        struct msg_rejected rejected = {0};
        http_set_watch(x, &(struct http_watch){.ctx = c, .on_closed = on_closed, .on_writable = on_writable});
        c->feed = feed_open(f->core, &g, &back, c, &rejected, now);
        if (c->feed) {
            begin(c, &g);
        } else {
            unlink_call(c);
            free(c);
            http_set_watch(x, &(struct http_watch){0});
            refuse(f, x, &rejected.error, rejected.retry_after_ms);
        }
    }
    buf_free(&body);
    openai_request_destroy(request);
}
