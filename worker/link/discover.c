#include "worker/link/discover.h"

#include "common/base/check.h"
#include "common/sys/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LOOK_MS = 2000, LOG_PERIOD_MS = 60000 };

struct discover {
    struct config_discover what;
    uv_loop_t *loop;
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    bool looking, stopping;
    struct timespec file_changed;
    struct log_limit failed_log;
    char addresses[ROUTERS_MAX][ADDRESS_SIZE];
    uint32_t n;
    bool known;
    void (*changed)(void *ctx, const char (*addresses)[ADDRESS_SIZE], uint32_t n);
    void *ctx;
};

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void take(struct discover *d, char (*found)[ADDRESS_SIZE], uint32_t n) {
    qsort(found, n, ADDRESS_SIZE, by_text);
    bool same = d->known && n == d->n;
    for (uint32_t i = 0; i < n && same; i++) same = strcmp(found[i], d->addresses[i]) == 0;
    if (same) return;
    memcpy(d->addresses, found, n * ADDRESS_SIZE);
    d->n = n;
    d->known = true;
    d->changed(d->ctx, (const char(*)[ADDRESS_SIZE])d->addresses, n);
}

// --- a watched file: one address a line, '#' starts a comment

static void read_file(struct discover *d) {
    struct stat s;
    char found[ROUTERS_MAX][ADDRESS_SIZE] = {{0}}, line[ADDRESS_SIZE * 2];
    uint32_t n = 0;
    FILE *f = stat(d->what.entries[0], &s) == 0 ? fopen(d->what.entries[0], "r") : NULL;
    if (f == NULL) {
        log_limited(&d->failed_log, LOG_PERIOD_MS, LEVEL_WARN, "routers_file_unreadable", "path=%s", d->what.entries[0]);
        return;
    }
    bool unchanged = d->known && memcmp(&s.st_mtim, &d->file_changed, sizeof s.st_mtim) == 0;
    while (!unchanged && n < ROUTERS_MAX && fgets(line, sizeof line, f)) {
        line[strcspn(line, "#\r\n")] = '\0';
        char word[ADDRESS_SIZE];
        if (sscanf(line, " %127s", word) == 1) snprintf(found[n++], ADDRESS_SIZE, "%s", word);
    }
    fclose(f);
    if (unchanged) return;
    d->file_changed = s.st_mtim;
    take(d, found, n);
}

// --- a name with many addresses

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    struct discover *d = request->data;
    char found[ROUTERS_MAX][ADDRESS_SIZE] = {{0}}, host[INET6_ADDRSTRLEN];
    uint32_t n = 0;
    d->looking = false;
    if (d->stopping) {
        uv_freeaddrinfo(list);
        free(d);
        return;
    }
    if (status != 0) {
        log_limited(&d->failed_log, LOG_PERIOD_MS, LEVEL_WARN, "routers_name_unknown", "name=%s reason=%s",
                    d->what.entries[0], uv_strerror(status));
        return;
    }
    for (struct addrinfo *a = list; a && n < ROUTERS_MAX; a = a->ai_next) {
        bool v6 = a->ai_family == AF_INET6;
        const void *address = v6 ? (const void *)&((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr
                                 : (const void *)&((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr;
        uint16_t port = ntohs(v6 ? ((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_port
                                 : ((struct sockaddr_in *)(void *)a->ai_addr)->sin_port);
        inet_ntop(a->ai_family, address, host, sizeof host);
        snprintf(found[n++], ADDRESS_SIZE, v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", host, port);
    }
    uv_freeaddrinfo(list);
    take(d, found, n);
}

static void look_up(struct discover *d) {
    char host[ADDRESS_SIZE];
    snprintf(host, sizeof host, "%s", d->what.entries[0]);
    char *colon = strrchr(host, ':');
    if (d->looking || colon == NULL) return;
    *colon = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    d->lookup.data = d;
    d->looking = uv_getaddrinfo(d->loop, &d->lookup, on_looked_up, host, colon + 1, &hints) == 0;
}

// ---

static void look(uv_timer_t *timer) {
    struct discover *d = timer->data;
    if (d->what.kind == DISCOVER_FILE) read_file(d);
    if (d->what.kind == DISCOVER_DNS) look_up(d);
}

struct discover *discover_start(uv_loop_t *loop, const struct config_discover *what,
                                void (*changed)(void *ctx, const char (*addresses)[ADDRESS_SIZE], uint32_t n), void *ctx) {
    struct discover *d = xcalloc(1, sizeof *d);
    d->what = *what;
    d->loop = loop;
    d->changed = changed;
    d->ctx = ctx;
    uv_timer_init(loop, &d->timer);
    d->timer.data = d;
    if (what->kind == DISCOVER_LIST) {
        char found[ROUTERS_MAX][ADDRESS_SIZE];
        memcpy(found, what->entries, sizeof found);
        take(d, found, what->n_entries);
    } else {
        uv_timer_start(&d->timer, look, 0, LOOK_MS);
    }
    return d;
}

static void on_timer_closed(uv_handle_t *handle) {
    struct discover *d = handle->data;
    if (!d->looking) free(d); // else the look-up's answer frees it
}

void discover_stop(struct discover **handle) {
    struct discover *d = *handle;
    *handle = NULL;
    if (d == NULL) return;
    d->stopping = true;
    uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}
