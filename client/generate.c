// A call as its caller lives it: hands in a ticket, waits for news, and tells them as events, in order, each once.
#include "client/internal.h"

#include "common/base/check.h"
#include "common/sys/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 64 };                           // records copied out per turn of the lock
enum { CLUSTER_MS = 2000, DIALLING_MS = 300 }; // for routers to answer; to be connected at all

// What the caller has told on, and a batch of what it has not: copied, because the log moves when it grows.
struct reader {
    struct shoal *shoal;
    struct ticket *ticket;
    shoal_on_event on_event;
    void *ctx;
    struct shoal_event event; // the fields that all events share
    uint32_t told;            // records
    uint32_t accepted;        // as told
    bool stopped;             // the caller wants no more
    uint32_t n;
    struct record records[BATCH];
    struct buf text, tops;
};

static bool has_news(const struct reader *r) {
    const struct call *c = &r->ticket->call;
    return c->state == CALL_ENDED || c->accepted != r->accepted || record_log_count(c->log) > r->told;
}

static void copy_batch(struct reader *r) {
    const struct record_log *log = r->ticket->call.log;
    uint32_t left = record_log_count(log) - r->told;
    r->n = left < BATCH ? left : BATCH;
    buf_reset(&r->text), buf_reset(&r->tops);
    for (uint32_t i = 0; i < r->n; i++) {
        r->records[i] = record_log_get(log, r->told + i);
        buf_append(&r->text, r->records[i].text, r->records[i].text_len);
        buf_append(&r->tops, r->records[i].top, r->records[i].n_top * sizeof(struct top_logprob));
    }
    size_t text = 0, top = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        r->records[i].text = r->text.data + text;
        r->records[i].top = (const struct top_logprob *)(void *)(r->tops.data + top);
        text += r->records[i].text_len;
        top += r->records[i].n_top * sizeof(struct top_logprob);
    }
}

static void copy_state(struct reader *r) {
    const struct call *c = &r->ticket->call;
    struct shoal_event *e = &r->event;
    memcpy(e->replica, c->replica, sizeof e->replica);
    memcpy(e->router, c->router_name, sizeof e->router);
    e->attempt = c->seen.counter;
    e->attempts = c->attempts;
    e->prompt_tokens = c->prompt_tokens;
    e->max_tokens = c->max_tokens;
}

_Static_assert(sizeof(struct shoal_top_logprob) == sizeof(struct top_logprob), "the same in both worlds");

static bool tell(const struct reader *r, const struct shoal_event *e) {
    return r->on_event == NULL || r->on_event(r->ctx, e);
}

static bool tell_record(const struct reader *r, uint32_t i) {
    const struct record *record = &r->records[i];
    struct shoal_event e = r->event;
    e.kind = SHOAL_TOKEN;
    e.channel = (enum shoal_channel)record->channel;
    e.text = record->text_len ? record->text : "";
    e.text_len = record->text_len;
    e.offset = r->told + i;
    e.token = record->token;
    e.has_logprob = record->has_logprob;
    e.logprob = record->logprob;
    e.n_top = record->n_top;
    e.top = (const struct shoal_top_logprob *)record->top;
    return tell(r, &e);
}

// Tells what was copied; without the lock. false: the caller wants no more.
static bool tell_batch(struct reader *r, bool accepted) {
    if (accepted) {
        struct shoal_event e = r->event;
        e.kind = SHOAL_ACCEPTED;
        if (!tell(r, &e)) return false;
    }
    for (uint32_t i = 0; i < r->n; i++)
        if (!tell_record(r, i)) return false;
    r->told += r->n;
    return true;
}

static void wish_cancel(struct shoal *s, struct ticket *t) {
    t->cancelled = true;
    uv_async_send(&s->wake);
}

// Until the call has ended and everything of it is told.
static void read_to_the_end(struct reader *r) {
    struct ticket *t = r->ticket;
    pthread_mutex_lock(&r->shoal->lock);
    for (;;) {
        while (r->stopped ? t->call.state != CALL_ENDED : !has_news(r)) pthread_cond_wait(&t->changed, &r->shoal->lock);
        if (r->stopped) break;
        bool accepted = t->call.accepted != r->accepted;
        r->accepted = t->call.accepted;
        copy_state(r);
        copy_batch(r);
        if (t->call.state == CALL_ENDED && r->n == 0 && !accepted) break;
        pthread_mutex_unlock(&r->shoal->lock);
        r->stopped = !tell_batch(r, accepted);
        pthread_mutex_lock(&r->shoal->lock);
        if (r->stopped && t->call.state != CALL_ENDED) wish_cancel(r->shoal, t);
    }
    pthread_mutex_unlock(&r->shoal->lock);
}

static const char *finish_name(enum finish finish) {
    static const char *const names[] = {"stop", "length", "tool_calls", "error", "cancelled"};
    return (unsigned)finish < ARRAY_LEN(names) ? names[finish] : "unknown";
}

// The call has ended; nobody else looks at it any more.
static int tell_end(struct reader *r, struct shoal_failure *why) {
    struct call *c = &r->ticket->call;
    struct shoal_failure failure;
    copy_state(r);
    struct shoal_event e = r->event;
    if (r->stopped) { // even if the answer was complete by then: not all of it was told
        c->complete = false;
        error_set(&c->failure, ERR_CANCELLED, "the call was cancelled");
    }
    if (!c->complete) {
        failure_set(&failure, &c->failure, c->retry_after_ms);
        if (why) *why = failure;
        e.kind = SHOAL_FAILED;
        e.failure = &failure;
        tell(r, &e);
        return -1;
    }
    if (c->done.tail_len > 0) {
        e.kind = SHOAL_TAIL;
        e.channel = (enum shoal_channel)c->done.tail_channel;
        e.text = c->done.tail;
        e.text_len = c->done.tail_len;
        tell(r, &e);
        e = r->event;
    }
    e.kind = SHOAL_DONE;
    e.finish = finish_name(c->done.finish);
    e.prompt_tokens = c->done.usage.prompt_tokens;
    e.completion_tokens = c->done.usage.completion_tokens;
    e.cached_tokens = c->done.usage.cached_tokens;
    e.restored_tokens = c->done.usage.restored_tokens;
    e.reasoning_tokens = c->done.usage.reasoning_tokens;
    tell(r, &e);
    return 0;
}

// The handle takes the ticket, or says why not.
static err_id hand_in(struct shoal *s, struct ticket *t, struct error *e) {
    err_id id = ERR_NONE;
    pthread_mutex_lock(&s->lock);
    bool twice = core_find(&s->core, &t->call.request.key.request) != NULL;
    for (struct ticket *other = s->incoming; other; other = other->next)
        twice |= request_id_equal(&other->call.request.key.request, &t->call.request.key.request);
    if (s->closing)
        id = error_set(e, ERR_CANCELLED, "the handle was closed");
    else if (twice)
        id = error_set_param(e, ERR_INVALID_ARGUMENT, "request_id", "a call with this request_id is in progress");
    else if (s->callers >= CORE_CALLS_MAX)
        id = error_set(e, ERR_OVERLOADED, "the handle has %d calls in progress, its limit", CORE_CALLS_MAX);
    if (id == ERR_NONE) {
        s->callers++;
        t->next = s->incoming;
        s->incoming = t;
        uv_async_send(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return id;
}

static void leave(struct shoal *s) {
    pthread_mutex_lock(&s->lock);
    s->callers--;
    pthread_cond_broadcast(&s->callers_gone);
    pthread_mutex_unlock(&s->lock);
}

int shoal_generate(struct shoal *s, const struct shoal_request *request, shoal_on_event on_event, void *ctx,
                   struct shoal_failure *why) {
    struct shoal_request all = SHOAL_REQUEST_INIT; // what an older caller does not know stays as it is
    memcpy(&all, request, request->size < sizeof all ? request->size : sizeof all);
    struct error e = {0};
    struct buf body = {0};
    struct msg_generate generate;
    if (request_read(&all, s->tenant, &body, &generate, &e) != ERR_NONE) {
        buf_free(&body);
        return failure_set(why, &e, 0);
    }
    struct ticket *t = xcalloc(1, sizeof *t);
    struct reader *r = xcalloc(1, sizeof *r);
    call_init(&t->call, &generate, all.deadline_ms ? clock_ms() + all.deadline_ms : MS_NEVER);
    pthread_cond_init(&t->changed, NULL);
    r->shoal = s, r->ticket = t, r->on_event = on_event, r->ctx = ctx;
    r->event.seed = generate.seed;
    request_id_text(&generate.key.request, r->event.request_id);
    int result = -1;
    if (hand_in(s, t, &e) == ERR_NONE) {
        read_to_the_end(r);
        result = tell_end(r, why);
        leave(s);
    } else {
        failure_set(why, &e, 0);
    }
    pthread_cond_destroy(&t->changed);
    call_fini(&t->call);
    buf_free(&r->text), buf_free(&r->tops), buf_free(&body);
    free(r);
    free(t);
    return result;
}

bool shoal_cancel(struct shoal *s, const char *request_id_hex) {
    request_id id;
    if (!request_id_parse(request_id_hex, &id)) return false;
    pthread_mutex_lock(&s->lock);
    struct call *c = core_find(&s->core, &id);
    struct ticket *found = (struct ticket *)c;
    for (struct ticket *t = s->incoming; t && !found; t = t->next)
        if (request_id_equal(&t->call.request.key.request, &id)) found = t;
    if (found) wish_cancel(s, found);
    pthread_mutex_unlock(&s->lock);
    return found != NULL;
}

// ---- looking at the cluster

// Routers that are not connected are waited for only while they may still be dialling.
static bool all_answered(const struct shoal *s, bool dialling) {
    bool any = false;
    for (uint32_t i = 0; i < s->core.options.n_routers; i++) {
        if (s->views[i] == NULL && (dialling || s->core.routers[i].open)) return false;
        any |= s->views[i] != NULL;
    }
    return any;
}

static void forget_views(struct shoal *s) {
    for (uint32_t i = 0; i < ROUTERS_MAX; i++) {
        shoal_cluster_free(s->views[i]);
        s->views[i] = NULL;
    }
}

static void wait_for_views(struct shoal *s, int64_t until_ns, bool dialling) {
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    while (!s->closing && !all_answered(s, dialling))
        if (pthread_cond_timedwait(&s->view_changed, &s->lock, &until) != 0) break;
}

// Holds the turn and is counted as a caller.
static struct shoal_cluster *gather_views(struct shoal *s, uint32_t timeout_ms) {
    uint32_t dialling_ms = timeout_ms < DIALLING_MS ? timeout_ms : DIALLING_MS;
    int64_t begin_ns = clock_ns();
    pthread_mutex_lock(&s->lock);
    forget_views(s); // what is told must be news
    s->query_wanted = true;
    uv_async_send(&s->wake);
    wait_for_views(s, begin_ns + dialling_ms * INT64_C(1000000), true);
    wait_for_views(s, begin_ns + timeout_ms * INT64_C(1000000), false);
    s->query_wanted = false;
    struct shoal_cluster *all = NULL;
    for (uint32_t i = 0; i < ROUTERS_MAX && !all; i++)
        if (s->views[i]) all = view_merge(s->views, ROUTERS_MAX);
    pthread_mutex_unlock(&s->lock);
    return all;
}

void shoal_notice(struct shoal *s, const char *replica, uint32_t deadline_ms) {
    pthread_mutex_lock(&s->lock);
    s->notice = (struct msg_notice){.deadline_ms = deadline_ms};
    snprintf(s->notice.name, sizeof s->notice.name, "%s", replica);
    s->notice_wanted = replica[0] != '\0';
    pthread_mutex_unlock(&s->lock);
    uv_async_send(&s->wake);
}

int shoal_cluster(struct shoal *s, uint32_t timeout_ms, struct shoal_cluster **out, struct shoal_failure *why) {
    if (timeout_ms == 0) timeout_ms = CLUSTER_MS;
    pthread_mutex_lock(&s->lock);
    s->callers++;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&s->view_turn);
    *out = gather_views(s, timeout_ms);
    pthread_mutex_unlock(&s->view_turn);
    leave(s);
    if (*out) return 0;
    struct error e;
    error_set(&e, ERR_UNAVAILABLE, "no router answered within %u ms (%s)", timeout_ms, s->routers_text);
    return failure_set(why, &e, 0);
}
