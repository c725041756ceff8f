// Listening, accepting, time, and the end. Connections live in http_conn.c.
#include "common/net/http_internal.h"

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/net/unix_path.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTAINER(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

enum { BACKLOG = 1024, TICK_MS = 250, TCP_KEEPALIVE_S = 60 };

ms_t http_now(const struct http_server *s) { return (ms_t)uv_now(s->options.loop); }

// ---- once per turn of the loop ----

static void on_wake(uv_idle_t *idle) {} // its being active keeps the loop from waiting

void http_server_wake(struct http_server *s) { uv_idle_start(&s->wake, on_wake); }

static void on_flush(uv_prepare_t *prepare) {
    struct http_server *s = prepare->data;
    for (uint32_t n = s->n_dirty; n > 0 && !s->destroyed && !http_list_empty(&s->dirty); n--) {
        struct http_conn *c = CONTAINER(s->dirty.next, struct http_conn, dirty);
        http_list_remove(&c->dirty);
        s->n_dirty--;
        http_conn_turn(c);
    }
    if (!s->destroyed && http_list_empty(&s->dirty)) uv_idle_stop(&s->wake);
}

// ---- time ----

static bool is_stalled(struct http_conn *c, ms_t now) {
    size_t queue = uv_stream_get_write_queue_size(&c->socket.stream);
    if (queue == 0 || queue != c->queue_seen) {
        c->queue_seen = queue;
        if (queue) c->progress_at = now;
        return false;
    }
    return now - c->progress_at >= c->server->options.stall_timeout_ms;
}

static void expire(struct http_conn *c) {
    struct error e = {0};
    c->server->stats.timeouts_total++;
    if (c->state != CONN_READING || c->x == NULL) {
        http_conn_close(c); // between requests, or lingering
        return;
    }
    const struct http_server_options *o = &c->server->options;
    bool body = c->x->headers_done;
    error_set(&e, ERR_INVALID_ARGUMENT, "the request's %s did not arrive within %u ms", body ? "body" : "headers",
              body ? o->body_timeout_ms : o->header_timeout_ms);
    http_conn_refuse(c, 408, &e);
}

// A connection whose time is over: every treatment below ends that state, so looking from the start again ends too.
static struct http_conn *find_expired(struct http_server *s, ms_t now, bool *stalled) {
    for (struct http_list *l = s->conns.next; l != &s->conns; l = l->next) {
        struct http_conn *c = CONTAINER(l, struct http_conn, all);
        *stalled = is_stalled(c, now);
        if (*stalled || now >= c->deadline) return c;
    }
    return NULL;
}

static void on_tick(uv_timer_t *timer) {
    struct http_server *s = timer->data;
    bool stalled;
    struct http_conn *c;
    while (!s->destroyed && (c = find_expired(s, http_now(s), &stalled)) != NULL) {
        if (stalled) {
            s->stats.timeouts_total++;
            c->reset = true;
            http_conn_lose(c);
        } else {
            expire(c);
        }
    }
}

static void start_tick(struct http_server *s) {
    const struct http_server_options *o = &s->options;
    uint32_t shortest[] = {o->header_timeout_ms, o->body_timeout_ms, o->idle_timeout_ms, o->stall_timeout_ms};
    uint32_t tick = TICK_MS;
    for (size_t i = 0; i < ARRAY_LEN(shortest); i++)
        if (shortest[i] / 4 < tick) tick = shortest[i] / 4 + 1;
    if (!uv_is_active((uv_handle_t *)&s->tick)) uv_timer_start(&s->tick, on_tick, tick, tick);
}

// ---- accepting ----

static int init_handle(struct http_server *s, union http_handle *h) {
    return s->listener.handle.type == UV_TCP ? uv_tcp_init(s->options.loop, &h->tcp)
                                             : uv_pipe_init(s->options.loop, &h->pipe, 0);
}

static void add_connection(struct http_server *s, struct http_conn *c) {
    http_list_init(&c->all);
    http_list_init(&c->dirty);
    http_list_add(&s->conns, &c->all);
    s->n_conns++;
    s->stats.connections++;
    s->stats.connections_total++;
    start_tick(s);
}

static void on_connection(uv_stream_t *listener, int status) {
    struct http_server *s = listener->data;
    if (status != 0) return; // out of descriptors, or the client is gone already: the next one may do better
    struct http_conn *c = xcalloc(1, sizeof *c);
    c->server = s;
    c->deadline = MS_NEVER;
    if (init_handle(s, &c->socket) != 0) {
        free(c);
        return;
    }
    c->socket.handle.data = c;
    add_connection(s, c);
    if (uv_accept(listener, &c->socket.stream) != 0 ||
        s->stats.connections > s->options.connections_max + HTTP_REFUSED_MAX) {
        http_conn_close(c);
        return;
    }
    if (c->socket.handle.type == UV_TCP) {
        uv_tcp_nodelay(&c->socket.tcp, 1);
        uv_tcp_keepalive(&c->socket.tcp, 1, TCP_KEEPALIVE_S);
    }
    http_conn_start(c);
    if (s->stats.connections > s->options.connections_max) {
        struct error e = {0};
        error_set(&e, ERR_UNAVAILABLE, "more than %u connections are open", s->options.connections_max);
        http_conn_refuse(c, 503, &e);
    }
}

// ---- listening ----

static void note_address(struct http_server *s, const struct endpoint *asked) {
    struct sockaddr_storage name;
    int size = sizeof name;
    struct endpoint found = *asked;
    if (asked->kind == ENDPOINT_TCP && uv_tcp_getsockname(&s->listener.tcp, (struct sockaddr *)&name, &size) == 0)
        found.port = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                                      : ((struct sockaddr_in *)&name)->sin_port);
    endpoint_text(&found, s->address);
}

static int listen_tcp(struct http_server *s, const struct endpoint *p) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    bool any = p->host[0] == '\0';
    if (!any && !p->v6) uv_ip4_addr(p->host, p->port, &v4);
    uv_ip6_addr(any ? "::" : p->host, p->port, &v6); // "::" takes IPv4 too
    const struct sockaddr *address = any || p->v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    int rc = uv_tcp_bind(&s->listener.tcp, address, 0);
    if (any && (rc == UV_EAFNOSUPPORT || rc == UV_EADDRNOTAVAIL)) { // a kernel without IPv6
        uv_ip4_addr("0.0.0.0", p->port, &v4);
        rc = uv_tcp_bind(&s->listener.tcp, (struct sockaddr *)&v4, 0);
    }
    return rc ? rc : uv_listen(&s->listener.stream, BACKLOG, on_connection);
}

static err_id start_listening(struct http_server *s, const struct endpoint *p, struct error *e) {
    int rc;
    if (p->kind == ENDPOINT_UNIX) {
        TRY(unix_path_claim(p->host, e));
        rc = uv_pipe_bind(&s->listener.pipe, p->host);
        if (rc == 0) rc = uv_listen(&s->listener.stream, BACKLOG, on_connection);
    } else {
        rc = listen_tcp(s, p);
    }
    if (rc != 0) return error_set(e, ERR_SYSTEM, "cannot listen on %s: %s", s->options.address, uv_strerror(rc));
    note_address(s, p);
    s->options.address = s->address;
    return ERR_NONE;
}

static void use_defaults(struct http_server_options *o) {
    if (o->header_bytes_max == 0) o->header_bytes_max = 32 << 10;
    if (o->body_bytes_max == 0) o->body_bytes_max = BODY_BYTES_MAX;
    if (o->held_bytes_max == 0) o->held_bytes_max = UINT64_C(512) << 20;
    if (o->connections_max == 0) o->connections_max = 4096;
    if (o->header_timeout_ms == 0) o->header_timeout_ms = 10 * 1000;
    if (o->body_timeout_ms == 0) o->body_timeout_ms = 120 * 1000;
    if (o->idle_timeout_ms == 0) o->idle_timeout_ms = 75 * 1000;
    if (o->stall_timeout_ms == 0) o->stall_timeout_ms = 60 * 1000;
}

static void init_handles(struct http_server *s, bool tcp) {
    uv_loop_t *loop = s->options.loop;
    s->listener.handle.type = tcp ? UV_TCP : UV_NAMED_PIPE;
    CHECK(init_handle(s, &s->listener) == 0); // without a flag for an early socket, these only fill structs
    CHECK(uv_timer_init(loop, &s->tick) == 0 && uv_prepare_init(loop, &s->flush) == 0 && uv_idle_init(loop, &s->wake) == 0);
    s->listener.handle.data = s->tick.data = s->flush.data = s->wake.data = s;
    s->handles = 4;
    s->listening = true;
    uv_prepare_start(&s->flush, on_flush);
}

// libuv writes to a connection that the client has reset with the signal on; its default would end the process.
static void ignore_sigpipe(void) {
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

err_id http_server_create(const struct http_server_options *options, struct http_server **out, struct error *e) {
    struct endpoint p;
    TRY(endpoint_parse(options->address, &p, e));
    if (p.kind == ENDPOINT_TCP && p.host[0] && !p.numeric)
        return error_set(e, ERR_INVALID_ARGUMENT, "cannot listen on %s: expected a numeric address", options->address);
    struct http_server *s = xcalloc(1, sizeof *s);
    s->options = *options;
    use_defaults(&s->options);
    if (options->headers) s->headers = xstrdup(options->headers);
    http_list_init(&s->conns);
    http_list_init(&s->dirty);
    ignore_sigpipe();
    init_handles(s, p.kind == ENDPOINT_TCP);
    err_id id = start_listening(s, &p, e);
    if (id != ERR_NONE)
        http_server_destroy(&s);
    else
        *out = s;
    return id;
}

const char *http_server_address(const struct http_server *s) { return s->address; }
const struct http_stats *http_server_stats(const struct http_server *s) { return &s->stats; }

// ---- the end ----

static void settle(struct http_server *s) {
    if (s->n_conns > 0) return;
    if (!s->destroyed) {
        uv_timer_stop(&s->tick);
        void (*on_stopped)(void *ctx) = s->listening ? NULL : s->on_stopped;
        if (on_stopped) {
            s->on_stopped = NULL;
            on_stopped(s->options.ctx);
        }
    } else if (s->handles == 0) {
        free(s->headers);
        free(s);
    }
}

void http_server_conn_gone(struct http_server *s) {
    s->n_conns--;
    settle(s);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_server *s = handle->data;
    s->handles--;
    if (handle == &s->listener.handle) s->listening = false;
    settle(s);
}

void http_server_leave(struct http_server *s) { s->leaving = true; }

void http_server_stop(struct http_server *s, void (*on_stopped)(void *ctx)) {
    if (s->stopping) return;
    s->stopping = s->leaving = true;
    s->on_stopped = on_stopped;
    uv_close(&s->listener.handle, on_handle_closed);
    for (struct http_list *l = s->conns.next, *next; l != &s->conns; l = next) {
        struct http_conn *c = CONTAINER(l, struct http_conn, all);
        next = l->next;
        if (http_conn_is_idle(c)) http_conn_drain(c);
    }
}

void http_server_destroy(struct http_server **server) {
    struct http_server *s = *server;
    *server = NULL;
    if (s == NULL) return;
    s->destroyed = true;
    while (!http_list_empty(&s->conns)) {
        struct http_conn *c = CONTAINER(s->conns.next, struct http_conn, all);
        http_exchange_free(&c->x);
        http_conn_close(c);
    }
    if (!s->stopping) uv_close(&s->listener.handle, on_handle_closed);
    uv_close((uv_handle_t *)&s->tick, on_handle_closed);
    uv_close((uv_handle_t *)&s->flush, on_handle_closed);
    uv_close((uv_handle_t *)&s->wake, on_handle_closed);
}
