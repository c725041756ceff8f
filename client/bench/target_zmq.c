// A load on a cluster over ZeroMQ, by libshoal's event-loop form.
#include "client/bench/target.h"

#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct refused { // before it began: told from the loop
    struct refused *next;
    void *user;
    struct target_end end;
};

struct zmq_target {
    struct shoal *shoal;
    const char *model;
    uint32_t timeout_ms;
    struct target_listener listener;
    uv_poll_t poll;
    uv_idle_t idle; // runs while something was refused, so that the loop does not sleep on it
    struct refused *refused;
    struct asked *asked;
    int open_handles;
};

struct asked {
    struct zmq_target *target;
    struct asked *next, *prev;
    void *user;
    bool cancelled;
};

static void name_error(const struct shoal_failure *f, struct target_end *end) {
    snprintf(end->error, sizeof end->error, "%d %s", f->http_status, f->status);
    for (char *c = end->error; *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c - 'A' + 'a');
}

static void unlink_asked(struct asked *a) {
    if (a->prev)
        a->prev->next = a->next;
    else
        a->target->asked = a->next;
    if (a->next) a->next->prev = a->prev;
}

static bool on_event(void *ctx, const struct shoal_event *e) {
    struct asked *a = ctx;
    struct target_listener *l = &a->target->listener;
    struct target_end end = {0};
    if (a->cancelled && !e->last) return false; // its end has been told already
    if (e->kind == SHOAL_TOKEN) l->on_tokens(l->ctx, a->user);
    if (!e->last) return true;
    end.complete = e->kind == SHOAL_DONE;
    end.prompt_tokens = e->prompt_tokens;
    if (end.complete)
        end.cached_tokens = e->cached_tokens, end.output_tokens = e->completion_tokens;
    else
        name_error(e->failure, &end);
    unlink_asked(a);
    if (!a->cancelled) l->on_end(l->ctx, a->user, &end);
    free(a);
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct zmq_target *t = poll->data;
    shoal_dispatch(t->shoal);
}

static void on_idle(uv_idle_t *idle) {
    struct zmq_target *t = idle->data;
    uv_idle_stop(idle);
    while (t->refused) {
        struct refused *r = t->refused;
        t->refused = r->next;
        t->listener.on_end(t->listener.ctx, r->user, &r->end);
        free(r);
    }
}

static void start(void *self, const struct target_request *q) {
    struct zmq_target *t = self;
    struct asked *a = xcalloc(1, sizeof *a);
    struct shoal_request r = SHOAL_REQUEST_INIT;
    struct shoal_failure why;
    r.model = t->model;
    r.prompt = q->prompt, r.prompt_len = q->prompt_len;
    r.max_tokens = q->output_tokens;
    r.ignore_eos = true;
    r.has_seed = true, r.seed = q->seed;
    r.deadline_ms = t->timeout_ms;
    a->target = t, a->user = q->user;
    if (shoal_start(t->shoal, &r, on_event, a, &why) == 0) {
        a->next = t->asked;
        if (t->asked) t->asked->prev = a;
        t->asked = a;
        return;
    }
    struct refused *no = xcalloc(1, sizeof *no);
    no->user = q->user, no->next = t->refused;
    name_error(&why, &no->end);
    t->refused = no;
    free(a);
    uv_idle_start(&t->idle, on_idle);
}

// The cluster hears of it with the next event of each, or when the handle is closed.
static void stop(void *self) {
    struct zmq_target *t = self;
    for (struct asked *a = t->asked; a; a = a->next) {
        struct target_end end = {.error = "interrupted"};
        if (!a->cancelled) t->listener.on_end(t->listener.ctx, a->user, &end);
        a->cancelled = true;
    }
}

static void on_closed(uv_handle_t *handle) {
    struct zmq_target *t = handle->data;
    if (--t->open_handles > 0) return;
    while (t->asked) {
        struct asked *a = t->asked;
        unlink_asked(a);
        free(a);
    }
    free(t);
}

static void destroy(void *self) {
    struct zmq_target *t = self;
    uv_poll_stop(&t->poll);
    shoal_close(t->shoal); // so that no event comes after this
    uv_close((uv_handle_t *)&t->poll, on_closed);
    uv_close((uv_handle_t *)&t->idle, on_closed);
}

void target_zmq(uv_loop_t *loop, struct shoal *s, const char *model, uint32_t timeout_ms,
                const struct target_listener *listener, struct target *out) {
    struct zmq_target *t = xcalloc(1, sizeof *t);
    t->shoal = s, t->model = model, t->timeout_ms = timeout_ms, t->listener = *listener;
    t->open_handles = 2;
    CHECK(uv_poll_init(loop, &t->poll, shoal_fd(s)) == 0 && uv_idle_init(loop, &t->idle) == 0);
    t->poll.data = t->idle.data = t;
    uv_poll_start(&t->poll, UV_READABLE, on_readable);
    *out = (struct target){t, start, stop, destroy};
}
