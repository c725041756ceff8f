// A call's life: handed in as one ticket for each choice, told by whoever waits for it or dispatches, and given back.
#include "client/internal.h"

#include "common/base/check.h"
#include "common/sys/clock.h"

#include <stdlib.h>
#include <unistd.h>

static bool in_progress(struct shoal *s, const struct stream_key *key) {
    for (uint32_t i = 0; i < CHOICES_MAX; i++)
        if (core_find(&s->core, &(struct stream_key){key->request, i})) return true;
    for (struct ticket *t = s->incoming; t; t = t->next)
        if (request_id_equal(&t->call.request.key.request, &key->request)) return true;
    return false;
}

static void add_started(struct shoal *s, struct shoal_call *c) {
    c->next_started = s->started;
    if (s->started) s->started->prev_started = c;
    s->started = c;
    s->n_started++;
}

// The handle takes all tickets, or says why not.
static err_id hand_in(struct shoal *s, struct shoal_call *c, struct error *e) {
    err_id id = ERR_NONE;
    pthread_mutex_lock(&s->lock);
    if (s->closing)
        id = error_set(e, ERR_CANCELLED, "the handle was closed");
    else if (in_progress(s, &c->tickets[0].call.request.key))
        id = error_set_param(e, ERR_INVALID_ARGUMENT, "request_id", "a call with this request_id is in progress");
    else if (s->answers + c->n > CORE_CALLS_MAX)
        id = error_set(e, ERR_OVERLOADED, "the handle has %u answers in progress; its limit is %d", s->answers,
                       CORE_CALLS_MAX);
    if (id == ERR_NONE) {
        s->answers += c->n;
        if (c->dispatched)
            add_started(s, c);
        else
            s->callers++;
        for (uint32_t i = c->n; i-- > 0;) {
            c->tickets[i].next = s->incoming;
            s->incoming = &c->tickets[i];
        }
        uv_async_send(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return id;
}

static void call_free(struct shoal_call *c) {
    for (uint32_t i = 0; c->tickets && i < c->n; i++) call_fini(&c->tickets[i].call);
    pthread_cond_destroy(&c->changed);
    buf_free(&c->body);
    free(c->tickets);
    free(c);
}

void handle_left(struct shoal *s) {
    pthread_mutex_lock(&s->lock);
    s->callers--;
    pthread_cond_broadcast(&s->callers_gone);
    pthread_mutex_unlock(&s->lock);
}

// NULL and *e: the request is not valid, or the handle takes no more.
static struct shoal_call *begin(struct shoal *s, const struct shoal_request *request, bool dispatched,
                                shoal_on_event on_event, void *ctx, struct error *e) {
    struct shoal_request all = SHOAL_REQUEST_INIT; // what an older caller does not know stays as it is
    memcpy(&all, request, request->size < sizeof all ? request->size : sizeof all);
    struct msg_generate generate;
    struct shoal_call *c = xcalloc(1, sizeof *c);
    pthread_cond_init(&c->changed, NULL);
    c->shoal = s, c->on_event = on_event, c->ctx = ctx, c->dispatched = dispatched;
    if (request_read(&all, s->tenant, &c->body, &generate, e) != ERR_NONE) {
        call_free(c);
        return NULL;
    }
    c->n = all.n > 1 ? all.n : 1;
    c->tickets = xcalloc(c->n, sizeof *c->tickets);
    ms_t deadline_at = all.deadline_ms ? clock_ms() + all.deadline_ms : MS_NEVER;
    for (uint32_t i = 0; i < c->n; i++) {
        generate.key.choice = i;
        c->tickets[i].of = c;
        call_init(&c->tickets[i].call, &generate, deadline_at);
    }
    c->event.seed = generate.seed;
    request_id_text(&generate.key.request, c->event.request_id);
    if (hand_in(s, c, e) == ERR_NONE) return c;
    call_free(c);
    return NULL;
}

static bool has_news(const struct shoal_call *c) {
    for (uint32_t i = 0; i < c->n; i++)
        if (ticket_has_news(&c->tickets[i])) return true;
    return false;
}

int shoal_generate(struct shoal *s, const struct shoal_request *request, shoal_on_event on_event, void *ctx,
                   struct shoal_failure *why) {
    struct error e = {0};
    struct shoal_call *c = begin(s, request, false, on_event, ctx, &e);
    if (c == NULL) return failure_set(why, &e, 0);
    struct teller *teller = xcalloc(1, sizeof *teller);
    do {
        pthread_mutex_lock(&s->lock);
        while (!has_news(c)) pthread_cond_wait(&c->changed, &s->lock);
        pthread_mutex_unlock(&s->lock);
    } while (!tell_news(teller, c));
    int result = c->failed ? -1 : 0;
    if (c->failed && why) *why = c->failure;
    pthread_mutex_lock(&s->lock);
    s->answers -= c->n;
    pthread_mutex_unlock(&s->lock);
    call_free(c);
    teller_free(teller);
    free(teller);
    handle_left(s); // the last: the handle may go now
    return result;
}

bool shoal_cancel(struct shoal *s, const char *request_id_hex) {
    request_id id;
    bool found = false;
    if (!request_id_parse(request_id_hex, &id)) return false;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < CHOICES_MAX; i++) {
        struct call *c = core_find(&s->core, &(struct stream_key){id, i});
        if (c == NULL) continue;
        ticket_cancel((struct ticket *)c);
        found = true;
    }
    for (struct ticket *t = s->incoming; t; t = t->next) {
        if (!request_id_equal(&t->call.request.key.request, &id)) continue;
        ticket_cancel(t);
        found = true;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

// ---- in an event loop

void call_note(struct shoal_call *c) {
    struct shoal *s = c->shoal;
    if (!c->dispatched) {
        pthread_cond_broadcast(&c->changed);
        return;
    }
    if (c->ready) return;
    c->ready = true;
    c->next_ready = NULL;
    *s->ready_tail = c;
    s->ready_tail = &c->next_ready;
    if (s->n_ready++ == 0) (void)!write(s->event_fd, &(uint64_t){1}, sizeof(uint64_t)); // never full
}

// With the lock held.
static void take_from_ready(struct shoal *s, struct shoal_call *c) {
    struct shoal_call **at = &s->ready;
    uint64_t count;
    if (!c->ready) return;
    while (*at != c) at = &(*at)->next_ready;
    *at = c->next_ready;
    if (c->next_ready == NULL) s->ready_tail = at;
    c->ready = false;
    if (--s->n_ready == 0) (void)!read(s->event_fd, &count, sizeof count); // it was 1
}

int shoal_start(struct shoal *s, const struct shoal_request *r, shoal_on_event on_event, void *ctx,
                struct shoal_failure *why) {
    struct error e = {0};
    return begin(s, r, true, on_event, ctx, &e) ? 0 : failure_set(why, &e, 0);
}

int shoal_fd(const struct shoal *s) { return s->event_fd; }

// Behind its last event.
static void forget_started(struct shoal *s, struct shoal_call *c) {
    pthread_mutex_lock(&s->lock);
    take_from_ready(s, c);
    if (c->prev_started)
        c->prev_started->next_started = c->next_started;
    else
        s->started = c->next_started;
    if (c->next_started) c->next_started->prev_started = c->prev_started;
    s->n_started--;
    s->answers -= c->n;
    pthread_mutex_unlock(&s->lock);
    call_free(c);
}

uint32_t shoal_dispatch(struct shoal *s) {
    pthread_mutex_lock(&s->lock);
    for (uint32_t left = s->n_ready; left > 0 && s->ready; left--) { // what becomes ready meanwhile waits for the next time
        struct shoal_call *c = s->ready;
        take_from_ready(s, c);
        pthread_mutex_unlock(&s->lock);
        if (tell_news(&s->teller, c)) forget_started(s, c);
        pthread_mutex_lock(&s->lock);
    }
    uint32_t n = s->n_started;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void calls_forget(struct shoal *s) {
    while (s->started) forget_started(s, s->started);
}
