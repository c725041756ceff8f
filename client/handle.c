// The handle: opening and closing, the thread with its loop and sockets, and the calls' side of the lock.
//
// Design notes. One lock guards the core. The loop thread takes it for each event that it feeds to the core; callers take it
// to hand in a ticket, to look for news of theirs, to wish for a cancel. Only the loop thread touches sockets; callers wake
// it. A dealer calls back while it is being redialled, so that happens outside the lock.
#include "client/internal.h"

#include "common/base/check.h"
#include "common/sys/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

enum { CONNECT_MS = 5000, SILENCE_MS = 1500 };

void draw_random(void *out, size_t n) { CHECK(getrandom(out, n, 0) == (ssize_t)n); }

void shoal_draw_request_id(char out[SHOAL_REQUEST_ID_SIZE]) {
    request_id id;
    draw_random(&id, sizeof id);
    request_id_text(&id, out);
}

int failure_set(struct shoal_failure *f, const struct error *e, uint32_t retry_after_ms) {
    if (f == NULL) return -1;
    const struct error_info *info = error_info(e->id);
    *f = (struct shoal_failure){
        .http_status = info->http_status, .retryable = info->retryable, .retry_after_ms = retry_after_ms};
    snprintf(f->status, sizeof f->status, "%s", info->grpc);
    snprintf(f->param, sizeof f->param, "%s", e->param);
    snprintf(f->text, sizeof f->text, "%s", error_text(e));
    return -1;
}

// ---- the loop's side. `_locked`: with the lock held.

static void send_message(void *ctx, link_id link, const struct msg *m) {
    struct shoal *s = ctx;
    buf_reset(&s->out);
    if (!codec_encode(m, &s->out)) return; // a request that fits is never too large; its Sync and Resend are small
    net_dealer_send(s->dialled[link - 1].dealer, s->out.data, s->out.len); // what is lost is asked for again
}

static void call_changed(void *ctx, struct call *c) {
    (void)ctx;
    call_note(((struct ticket *)c)->of);
}

static void cluster_came(void *ctx, int router, const struct msg_cluster *m) {
    struct shoal *s = ctx;
    shoal_cluster_free(s->views[router]);
    s->views[router] = view_copy(m);
    pthread_cond_broadcast(&s->view_changed);
}

static void take_orders_locked(struct shoal *s, ms_t now) {
    struct error why;
    error_set(&why, ERR_CANCELLED, s->closing ? "the handle was closed" : "the call was cancelled");
    while (s->incoming) {
        struct ticket *t = s->incoming;
        s->incoming = t->next;
        core_begin(&s->core, &t->call, now);
    }
    for (struct call *c = s->core.calls, *next; c; c = next) {
        next = c->next;
        if (s->closing || ((struct ticket *)c)->cancelled) core_cancel(&s->core, c, &why, now);
    }
    for (int i = 0; s->notice_wanted && i < (int)s->core.options.n_routers; i++)
        if (s->core.routers[i].greeted) core_notice(&s->core, i, &s->notice, now);
    s->notice_wanted = false;
    for (int i = 0; s->query_wanted && i < (int)s->core.options.n_routers; i++) {
        const struct core_router *r = &s->core.routers[i];
        if (r->greeted && s->views[i] == NULL && r->queries == r->clusters) core_query(&s->core, i, now);
    }
}

static void on_timer(uv_timer_t *timer);

// After each event: what is due, the timer, and silent routers to dial again. True: the handle is closing, and all calls
// have been ended.
static bool settle(struct shoal *s) {
    bool dead[ROUTERS_MAX] = {false};
    pthread_mutex_lock(&s->lock);
    ms_t now = clock_ms();
    take_orders_locked(s, now);
    ms_t next = core_tick(&s->core, now);
    for (uint32_t i = 0; i < s->core.options.n_routers; i++) {
        dead[i] = s->core.routers[i].dead;
        s->core.routers[i].dead = false;
    }
    bool closing = s->closing;
    pthread_mutex_unlock(&s->lock);
    if (closing) return true;
    uv_timer_start(&s->timer, on_timer, next > now ? (uint64_t)(next - now) : 0, 0);
    for (uint32_t i = 0; i < s->core.options.n_routers; i++)
        if (dead[i]) net_dealer_redial(s->dialled[i].dealer);
    return false;
}

static void on_timer(uv_timer_t *timer) { settle(timer->data); }

static void on_frame(void *ctx, const void *data, size_t len) {
    struct dialled *d = ctx;
    struct shoal *s = d->shoal;
    struct msg m;
    codec_arena_reset(&s->arena);
    bool ok = codec_decode(data, len, &s->arena, &m, NULL) == ERR_NONE;
    pthread_mutex_lock(&s->lock);
    if (ok)
        core_message(&s->core, d->index, &m, clock_ms());
    else
        s->core.protocol_errors++;
    pthread_mutex_unlock(&s->lock);
    settle(s);
}

static void on_connected(void *ctx) {
    struct dialled *d = ctx;
    pthread_mutex_lock(&d->shoal->lock);
    core_link_opened(&d->shoal->core, d->index, clock_ms());
    pthread_mutex_unlock(&d->shoal->lock);
    settle(d->shoal);
}

// Told with the next sentence that says that no router answers.
static void on_shut_out(void *ctx, const char *why) {
    struct dialled *d = ctx;
    struct shoal *s = d->shoal;
    pthread_mutex_lock(&s->lock);
    snprintf(s->routers_text, sizeof s->routers_text, "%s; %s: %s", s->routers_given, d->address, why);
    pthread_mutex_unlock(&s->lock);
}

static void on_disconnected(void *ctx) {
    struct dialled *d = ctx;
    pthread_mutex_lock(&d->shoal->lock);
    core_link_closed(&d->shoal->core, d->index, clock_ms());
    pthread_mutex_unlock(&d->shoal->lock);
    settle(d->shoal);
}

static void shut_loop(struct shoal *s) {
    for (uint32_t i = 0; i < s->core.options.n_routers; i++) net_dealer_destroy(&s->dialled[i].dealer);
    net_security_destroy(&s->security);
    uv_close((uv_handle_t *)&s->wake, NULL);
    uv_close((uv_handle_t *)&s->timer, NULL);
}

static void on_wake(uv_async_t *wake) {
    struct shoal *s = wake->data;
    if (settle(s) && !uv_is_closing((uv_handle_t *)wake)) shut_loop(s);
}

static void *run_loop(void *arg) {
    struct shoal *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

// ---- opening and closing

static err_id read_routers(const char *text, struct shoal *s, struct error *e) {
    uint32_t n = 0;
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, ",");
        if (len > 0) {
            if (n == ROUTERS_MAX)
                return error_set(e, ERR_INVALID_ARGUMENT, "more than %d routers are given: %s", ROUTERS_MAX, text);
            if (len >= ADDRESS_SIZE) return error_set(e, ERR_INVALID_ARGUMENT, "the router's address is too long: %s", at);
            struct dialled *d = &s->dialled[n];
            *d = (struct dialled){.shoal = s, .index = (int)n};
            memcpy(d->address, at, len);
            n++;
        }
        at += len + (at[len] == ',');
    }
    if (n == 0) return error_set(e, ERR_INVALID_ARGUMENT, "no routers are given");
    s->core.options.n_routers = n;
    snprintf(s->routers_given, sizeof s->routers_given, "%s", text);
    snprintf(s->routers_text, sizeof s->routers_text, "%s", text);
    s->core.options.routers_text = s->routers_text;
    return ERR_NONE;
}

// What an older caller does not know stays zero.
static err_id copy_options(const struct shoal_options *o, struct shoal_options *all, struct error *e) {
    *all = (struct shoal_options){0};
    if (o == NULL || o->size < offsetof(struct shoal_options, name) || o->routers == NULL)
        return error_set(e, ERR_INVALID_ARGUMENT, "no routers are given");
    memcpy(all, o, o->size < sizeof *all ? o->size : sizeof *all);
    return ERR_NONE;
}

static err_id read_options(const struct shoal_options *o, struct shoal *s, struct error *e) {
    struct shoal_options all = *o;
    struct core_options *c = &s->core.options;
    c->pid = (uint32_t)getpid();
    c->connect_ms = all.connect_ms ? all.connect_ms : CONNECT_MS;
    c->silence_ms = all.silence_ms ? all.silence_ms : SILENCE_MS;
    snprintf(c->name, sizeof c->name, "%s", all.name ? all.name : "client");
    snprintf(s->tenant, sizeof s->tenant, "%s", all.tenant ? all.tenant : "");
    draw_random(&c->incarnation, sizeof c->incarnation);
    c->incarnation |= 1;
    s->core.next_router = (uint32_t)(c->incarnation >> 32) % ROUTERS_MAX;
    return read_routers(all.routers, s, e);
}

static err_id dial_all(struct shoal *s, struct error *e) {
    for (uint32_t i = 0; i < s->core.options.n_routers; i++) {
        struct net_dealer_options o = {
            .loop = &s->loop,
            .address = s->dialled[i].address,
            .security = s->security,
            .on_shut_out = on_shut_out,
            .ctx = &s->dialled[i],
            .on_frame = on_frame,
            .on_connected = on_connected,
            .on_disconnected = on_disconnected,
            .redial_max_ms = 2000,
        };
        err_id id = net_dealer_create(&o, &s->dialled[i].dealer, e);
        if (id != ERR_NONE) return id;
    }
    return ERR_NONE;
}

static void init_waits(struct shoal *s) {
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->view_turn, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->view_changed, &monotonic);
    pthread_cond_init(&s->callers_gone, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void fini_waits(struct shoal *s) {
    pthread_cond_destroy(&s->view_changed);
    pthread_cond_destroy(&s->callers_gone);
    pthread_mutex_destroy(&s->view_turn);
    pthread_mutex_destroy(&s->lock);
}

int shoal_open(const struct shoal_options *options, struct shoal **out, struct shoal_failure *why) {
    struct error e = {0};
    struct shoal_options all;
    struct shoal *s = xcalloc(1, sizeof *s);
    *out = NULL;
    TRY_GOTO(copy_options(options, &all, &e), fail_options);
    TRY_GOTO(read_options(&all, s, &e), fail_options);
    s->core.sink = (struct sink){.ctx = s, .send = send_message};
    s->core.ctx = s;
    s->core.changed = call_changed;
    s->core.cluster = cluster_came;
    CHECK(uv_loop_init(&s->loop) == 0);
    CHECK(uv_async_init(&s->loop, &s->wake, on_wake) == 0 && uv_timer_init(&s->loop, &s->timer) == 0);
    s->wake.data = s->timer.data = s;
    init_waits(s);
    s->ready_tail = &s->ready;
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->event_fd < 0) {
        error_set(&e, ERR_SYSTEM, "cannot make an event descriptor: too many files are open");
        goto fail_dial;
    }
    TRY_GOTO(keys_open(&all, s, &e), fail_dial);
    TRY_GOTO(dial_all(s, &e), fail_dial);
    if (pthread_create(&s->thread, NULL, run_loop, s) != 0) {
        error_set(&e, ERR_SYSTEM, "cannot start a thread");
        goto fail_dial;
    }
    *out = s;
    return 0;
fail_dial:
    shut_loop(s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    fini_waits(s);
    if (s->event_fd >= 0) close(s->event_fd);
fail_options:
    free(s);
    return failure_set(why, &e, 0);
}

void shoal_close(struct shoal *s) {
    if (s == NULL) return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->view_changed);
    uv_async_send(&s->wake);
    while (s->callers > 0) pthread_cond_wait(&s->callers_gone, &s->lock);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    CHECK(uv_loop_close(&s->loop) == 0);
    calls_forget(s);
    teller_free(&s->teller);
    close(s->event_fd);
    for (uint32_t i = 0; i < ROUTERS_MAX; i++) shoal_cluster_free(s->views[i]);
    codec_arena_free(&s->arena);
    buf_free(&s->out);
    fini_waits(s);
    free(s);
}
