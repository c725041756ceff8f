// shoal proxy: the command around client/proxy.
#include "client/cli/cli.h"

#include "client/proxy/proxy.h"
#include "common/base/check.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct program {
    uv_loop_t loop;
    uv_signal_t term, interrupt;
    struct proxy *proxy;
    bool stopping;
};

static void finish(void *ctx) {
    struct program *p = ctx;
    uv_close((uv_handle_t *)&p->term, NULL);
    uv_close((uv_handle_t *)&p->interrupt, NULL);
    proxy_destroy(&p->proxy);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct program *p = handle->data;
    if (p->proxy == NULL) return;
    if (p->stopping)
        finish(p); // asked twice: now
    else
        proxy_stop(p->proxy, finish, p);
    p->stopping = true;
}

static err_id read_routers(const char *list, struct proxy_options *o, struct error *e) {
    while (*list) {
        char one[256];
        size_t len = strcspn(list, ",");
        if (o->n_routers == ROUTERS_MAX)
            return error_set(e, ERR_INVALID_ARGUMENT, "at most %d routers can be named", ROUTERS_MAX);
        snprintf(one, sizeof one, "%.*s", (int)len, list);
        TRY(proxy_router_parse(one, &o->routers[o->n_routers++], e));
        list += len + (list[len] == ',');
    }
    if (o->n_routers == 0) return error_set(e, ERR_INVALID_ARGUMENT, "--routers names no router");
    return ERR_NONE;
}

static int serve(struct program *p, struct proxy_options *o, struct error *e) {
    CHECK(uv_loop_init(&p->loop) == 0);
    o->loop = &p->loop;
    err_id id = proxy_create(o, &p->proxy, e);
    uv_signal_init(&p->loop, &p->term);
    uv_signal_init(&p->loop, &p->interrupt);
    p->term.data = p->interrupt.data = p;
    if (id == ERR_NONE) {
        uv_signal_start(&p->term, on_signal, SIGTERM);
        uv_signal_start(&p->interrupt, on_signal, SIGINT);
        fprintf(stderr, "shoal proxy: listening on http://%s, for %u router%s\n", proxy_address(p->proxy), o->n_routers,
                o->n_routers == 1 ? "" : "s");
    } else {
        finish(p);
    }
    uv_run(&p->loop, UV_RUN_DEFAULT);
    uv_loop_close(&p->loop);
    return id == ERR_NONE ? 0 : EXIT_USAGE;
}

int cmd_proxy(int argc, char **argv) {
    struct proxy_options o = {.listen = "127.0.0.1:8088", .patience_ms = 30000, .silence_ms = 30000};
    const char *routers = NULL;
    const struct flag flags[] = {
        {.name = "listen", .kind = FLAG_STRING, .target = &o.listen, .value = "ADDRESS", .help = "where to serve this host"},
        {.name = "routers",
         .kind = FLAG_STRING,
         .target = &routers,
         .value = "LIST",
         .help = "the routers' HTTP addresses, http://host:port, separated by commas; the first that answers is used",
         .required = true},
        {.name = "patience",
         .kind = FLAG_DURATION,
         .target = &o.patience_ms,
         .value = "TIME",
         .help = "look for a router that answers so long, before a request fails"},
        {.name = "silence",
         .kind = FLAG_DURATION,
         .target = &o.silence_ms,
         .value = "TIME",
         .help = "a router that says nothing on a stream for so long is left; longer than its timers.keepalive"},
    };
    const struct flag_spec spec = {
        .program = "shoal proxy",
        .summary =
            "Serves OpenAI's API on this host and forwards it to a cluster's routers. When a router dies, running answers "
            "go on at another one; clients see nothing but a pause.",
        .examples = "  shoal proxy --routers http://10.0.0.1:8080,http://10.0.0.2:8080\n"
                    "  shoal proxy --listen 127.0.0.1:9000 --routers http://127.0.0.1:8080,http://127.0.0.1:8081\n"
                    "  OPENAI_BASE_URL=http://127.0.0.1:8088/v1 OPENAI_API_KEY=none python app.py\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    enum flags_next next = flags_parse(&spec, argc, argv, NULL);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : EXIT_USAGE;
    static struct program p;
    struct error e = {0};
    int code = EXIT_USAGE;
    if (read_routers(routers, &o, &e) == ERR_NONE) code = serve(&p, &o, &e);
    if (code != 0) fprintf(stderr, "shoal: %s\n", error_text(&e));
    return code;
}
