#include "client/proxy/proxy.h"

#include "client/proxy/relay.h"
#include "common/base/check.h"
#include "common/sys/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

err_id proxy_router_parse(const char *text, struct proxy_router *out, struct error *e) {
    struct endpoint p;
    static const char scheme[] = "http://";
    const char *address = strncmp(text, scheme, sizeof scheme - 1) == 0 ? text + sizeof scheme - 1 : text;
    char plain[ADDRESS_SIZE];
    snprintf(plain, sizeof plain, "%s", address);
    size_t len = strlen(plain);
    if (len > 0 && plain[len - 1] == '/') plain[len - 1] = '\0';
    bool bad = strlen(address) >= sizeof plain || strstr(plain, "://") || strchr(plain, '/') ||
               endpoint_parse(plain, &p, e) != ERR_NONE || p.kind != ENDPOINT_TCP || p.host[0] == '\0' || p.port == 0;
    if (bad)
        return error_set(e, ERR_INVALID_ARGUMENT, "'%.200s' is not a router's address; expected http://host:port", text);
    snprintf(out->host, sizeof out->host, "%s", p.host);
    out->port = p.port;
    endpoint_text(&p, out->text);
    return ERR_NONE;
}

static void on_request(void *ctx, struct http_exchange *x) { relay_start(ctx, x); }

static void render_error(void *ctx, int status, const struct error *e, struct buf *body) { relay_render_error(e, body); }

err_id proxy_create(const struct proxy_options *options, struct proxy **out, struct error *e) {
    struct endpoint where;
    TRY(endpoint_parse(options->listen, &where, e));
    if (!where.loopback)
        return error_set(e, ERR_INVALID_ARGUMENT,
                         "%s can be reached by others: the proxy serves this host only, on 127.0.0.1:PORT or unix:/path",
                         options->listen);
    struct proxy *p = xcalloc(1, sizeof *p);
    p->options = *options;
    struct http_server_options server = {.loop = options->loop,
                                         .address = options->listen,
                                         .header_bytes_max = 64 << 10,
                                         .ctx = p,
                                         .on_request = on_request,
                                         .render_error = render_error};
    err_id id = http_server_create(&server, &p->server, e);
    if (id != ERR_NONE) {
        free(p);
        return id;
    }
    *out = p;
    return ERR_NONE;
}

const char *proxy_address(const struct proxy *p) { return http_server_address(p->server); }

static void on_server_stopped(void *ctx) {
    struct proxy *p = ctx;
    if (p->on_stopped) p->on_stopped(p->ctx);
}

void proxy_stop(struct proxy *p, void (*on_stopped)(void *ctx), void *ctx) {
    p->on_stopped = on_stopped;
    p->ctx = ctx;
    http_server_stop(p->server, on_server_stopped);
}

void proxy_destroy(struct proxy **proxy) {
    struct proxy *p = *proxy;
    *proxy = NULL;
    if (p == NULL) return;
    http_server_destroy(&p->server);
    relay_drop_all(p);
    free(p);
}
