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

void call_free(struct call *c) {
    unlink_call(c);
    free(c->choices);
    free(c->answer.tools);
    free(c);
}

static void log_end(const struct call *c, const char *how, ms_t now) {
    char id[REQUEST_ID_TEXT];
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < c->answer.event.n; i++)
        tokens += record_log_count(session_view(c->choices[i].feed->session).log);
    struct session_view v = session_view(c->choices[0].feed->session);
    request_id_text(&v.key.request, id);
    log_info("request_ended", "request=%s how=%s replica=%s attempt=%u choices=%u tokens=%u ms=%lld", id, how, v.replica,
             v.attempt.counter, c->answer.event.n, tokens, (long long)(now - c->started_at));
}

// Every way out of a call whose feeds are open leads through here.
static void call_end(struct call *c, const char *how, ms_t now) {
    struct front *f = c->front;
    log_end(c, how, now);
    for (uint32_t i = 0; i < c->answer.event.n; i++) feed_leave(f->core, c->choices[i].feed, &c->choices[i], now);
    front_metrics_ended(f->metrics, how, (double)(now - c->started_at) / 1000.0);
    call_free(c);
}

// --- rendering

static void add_headers(struct call *c) {
    const struct session_view first = session_view(c->choices[0].feed->session), *v = &first;
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

static void name_origin(struct call *c) {
    const struct session_view first = session_view(c->choices[0].feed->session), *v = &first;
    snprintf(c->answer.replica, sizeof c->answer.replica, "%s", v->replica);
    c->answer.attempt = v->attempt.counter;
    c->answer.seed = v->seed;
    c->answer.fingerprint = v->fingerprint;
    struct stream_id *id = &c->answer.event;
    snprintf(id->fingerprint, sizeof id->fingerprint, "%s", v->fingerprint);
    snprintf(id->replica, sizeof id->replica, "%s", v->replica);
    id->takeover = v->attempt.takeover;
    for (uint32_t i = 1; i < id->n; i++) {
        uint32_t takeover = session_view(c->choices[i].feed->session).attempt.takeover;
        if (takeover > id->takeover) id->takeover = takeover;
    }
}

static void write_out(struct call *c, ms_t now) {
    struct buf *out = &c->front->out;
    if (out->len > 0) {
        http_stream_write(c->x, out->data, out->len);
        c->written_at = now;
    }
    buf_reset(out);
}

static void begin_stream(struct call *c, ms_t now) {
    add_headers(c);
    if (c->behind) {
        uint32_t had = 0;
        char offset[16];
        for (uint32_t i = 0; i < c->answer.event.n; i++) had += c->choices[i].had.offset;
        snprintf(offset, sizeof offset, "%u", had);
        http_add_header(c->x, "X-Shoal-Resumed-From", offset);
    }
    http_add_header(c->x, "Cache-Control", "no-cache");
    http_add_header(c->x, "X-Accel-Buffering", "no");
    http_stream_begin(c->x, 200, "text/event-stream; charset=utf-8");
    c->begun = true;
    c->written_at = now;
    name_origin(c);
    buf_reset(&c->front->out);
    if (!c->behind) openai_render_start(&c->front->out, &c->answer);
    write_out(c, now);
}

// Passes over what the client has already. False: this is not the stream that it has a part of.
static bool pass_over(struct choice *ch, const struct session_view *v) {
    struct stream_position *at = &ch->call->answer.event.at[ch->index];
    const struct stream_position *had = &ch->had;
    uint32_t count = record_log_count(v->log);
    bool over = ch->feed->state == FEED_DONE, passed = at->phase != PHASE_RECORDS || at->offset > had->offset;
    if (!ch->call->behind || passed) return true;
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

static void render_records(struct choice *ch, const struct session_view *v, ms_t now) {
    struct call *c = ch->call;
    uint32_t count = record_log_count(v->log);
    struct stream_position *at = &c->answer.event.at[ch->index];
    if (c->behind && at->offset < ch->had.offset) return;
    while (at->offset < count && http_stream_pending_bytes(c->x) < c->front->options.stream_bytes_max) {
        uint32_t to = count - at->offset > TEXT_BATCH ? at->offset + TEXT_BATCH : count;
        buf_reset(&c->front->out);
        openai_render_records(&c->front->out, &c->answer, ch->index, v->log, to);
        write_out(c, now);
    }
}

// Why a choice will not be complete, or NULL. An answer that ended in an error is told as one, however much of it there is.
static const struct error *failure(const struct choice *ch, const struct session_view *v) {
    if (ch->feed->state == FEED_FAILED) return &v->rejected->error;
    return ch->feed->state == FEED_DONE && v->done->finish == FINISH_ERROR ? &v->done->error : NULL;
}

static void stream_failed(struct call *c, const struct error *why, ms_t now) {
    buf_reset(&c->front->out);
    openai_render_stream_error(&c->front->out, why);
    write_out(c, now);
    http_abort(c->x);
    c->x = NULL;
    call_end(c, "failed", now);
}

// Renders what there is of a choice. False: the call has failed and is gone. *over: it is rendered to its end.
static bool turn_choice(struct choice *ch, bool *over, ms_t now) {
    struct call *c = ch->call;
    struct session_view v = session_view(ch->feed->session);
    struct error lost = {0};
    const struct error *why = failure(ch, &v);
    *over = false;
    if (!pass_over(ch, &v)) {
        error_set(&lost, ERR_RESUME_LOST, "the stream cannot go on: it is not what it was up to token %u", ch->had.offset);
        stream_failed(c, &lost, now);
        return false;
    }
    render_records(ch, &v, now);
    if (c->answer.event.at[ch->index].offset < record_log_count(v.log) || ch->feed->state == FEED_RUNNING) return true;
    if (why) {
        stream_failed(c, why, now);
        return false;
    }
    buf_reset(&c->front->out);
    openai_render_finish(&c->front->out, &c->answer, ch->index, v.done);
    write_out(c, now);
    *over = true;
    return true;
}

static void ended_choices(const struct call *c, struct openai_choice out[CHOICES_MAX]) {
    for (uint32_t i = 0; i < c->answer.event.n; i++) {
        struct session_view v = session_view(c->choices[i].feed->session);
        out[i] = (struct openai_choice){v.log, v.done};
    }
}

static void turn_stream(struct call *c, ms_t now) {
    uint32_t n_over = 0;
    struct openai_choice all[CHOICES_MAX];
    if (!c->begun && !c->accepted) return;
    if (!c->begun) begin_stream(c, now);
    name_origin(c);
    for (uint32_t i = 0; i < c->answer.event.n; i++) {
        bool over;
        if (!turn_choice(&c->choices[i], &over, now)) return;
        n_over += over;
    }
    if (n_over < c->answer.event.n) return;
    ended_choices(c, all);
    struct usage usage = openai_usage(all, c->answer.event.n);
    buf_reset(&c->front->out);
    openai_render_end(&c->front->out, &c->answer, &usage);
    write_out(c, now);
    http_stream_end(c->x);
    c->x = NULL;
    call_end(c, "done", now);
}

// The whole answer, or what is left of one that was begun to keep the connection alive.
static void respond_body(struct call *c) {
    const struct buf *out = &c->front->out;
    if (c->begun) {
        http_stream_write(c->x, out->data, out->len);
        http_stream_end(c->x);
    } else {
        http_respond(c->x, 200, "application/json", out->data, out->len);
    }
    c->x = NULL;
}

// An answer in one piece whose head is out can't change its status any more: the error, and the body breaks off.
static void body_failed(struct call *c, const struct error *why, ms_t now) {
    buf_reset(&c->front->out);
    openai_render_error(&c->front->out, why);
    http_stream_write(c->x, c->front->out.data, c->front->out.len);
    http_abort(c->x);
    c->x = NULL;
    call_end(c, "failed", now);
}

static void turn_body(struct call *c, ms_t now) {
    struct openai_choice all[CHOICES_MAX];
    for (uint32_t i = 0; c->begun && i < c->answer.event.n; i++) {
        struct session_view v = session_view(c->choices[i].feed->session);
        const struct error *why = failure(&c->choices[i], &v);
        if (why == NULL) continue;
        body_failed(c, why, now);
        return;
    }
    for (uint32_t i = 0; i < c->answer.event.n; i++)
        if (c->choices[i].feed->state != FEED_DONE) return;
    name_origin(c);
    if (!c->begun) add_headers(c);
    ended_choices(c, all);
    buf_reset(&c->front->out);
    if (c->answer.kind == OPENAI_TOKENIZE || c->answer.kind == OPENAI_DETOKENIZE)
        openai_render_tokens(&c->front->out, &c->answer, &all[0]);
    else
        openai_render_answer(&c->front->out, &c->answer, all, c->answer.event.n);
    respond_body(c);
    call_end(c, "done", now);
}

static void note_first_token(struct call *c, ms_t now) {
    bool any = false;
    for (uint32_t i = 0; i < c->answer.event.n && !any; i++)
        any = record_log_count(session_view(c->choices[i].feed->session).log) > 0;
    if (c->first_at > 0 || !any) return;
    c->first_at = now;
    front_metrics_first_token(c->front->metrics, (double)(now - c->started_at) / 1000.0);
}

// Before anything went out, one choice that fails refuses the whole. True: c is gone.
static bool refused_whole(struct call *c, ms_t now) {
    for (uint32_t i = 0; i < c->answer.event.n && !c->begun; i++) {
        struct session_view v = session_view(c->choices[i].feed->session);
        const struct error *why = failure(&c->choices[i], &v);
        if (why == NULL) continue;
        add_headers(c);
        front_error(c->front, c->x, why, c->choices[i].feed->state == FEED_FAILED ? v.rejected->retry_after_ms : 0);
        c->x = NULL;
        call_end(c, "failed", now);
        return true;
    }
    return false;
}

void call_turn(struct call *c, ms_t now) {
    bool accepted = true;
    c->dirty = false;
    if (c->gone) {
        call_end(c, "disconnected", now);
        return;
    }
    for (uint32_t i = 0; i < c->answer.event.n; i++) accepted = accepted && c->choices[i].feed->accepted;
    c->accepted = c->accepted || accepted;
    note_first_token(c, now);
    if (refused_whole(c, now)) return;
    if (c->stream)
        turn_stream(c, now);
    else
        turn_body(c, now);
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

// An answer in one piece that takes long: blank lines keep what is between here and the client from giving up, and JSON may
// begin with them.
static void keep_body_alive(struct call *c, ms_t now) {
    if (!c->accepted || now - c->written_at < c->front->options.timers.keepalive_ms) return;
    if (!c->begun) {
        add_headers(c);
        http_stream_begin(c->x, 200, "application/json");
        c->begun = true;
    }
    http_stream_write(c->x, "\n", 1);
    c->written_at = now;
}

void call_scan(struct call *c, ms_t now) {
    const struct config_timers *t = &c->front->options.timers;
    if (c->dirty || c->gone) return;
    if (!c->stream) {
        keep_body_alive(c, now);
    } else if (!c->begun) {
        if (now - c->started_at < t->accept_wait_ms) return;
        c->accepted = true; // from here on a refusal is an error event
        mark(c);
    } else if (now - c->written_at >= t->keepalive_ms && http_stream_pending_bytes(c->x) == 0) {
        // One line without a blank one behind it: openai-python would take the empty block for an event.
        http_stream_write(c->x, ": keep-alive\n", 13);
        c->written_at = now;
    }
}
