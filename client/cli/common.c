// Finding the cluster, its model, and what Ctrl-C means.
#include "client/cli/cli.h"

#include "common/auth/allow_list.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char CLI_DIM[] = "\033[2m", CLI_PLAIN[] = "\033[0m";

bool cli_colour(void) { return isatty(STDOUT_FILENO); }

int cli_fail(int code, const struct shoal_failure *why) {
    fprintf(stderr, "shoal: %s\n", why->text);
    return code;
}

// ---- where the routers are

static void add_address(struct buf *list, const char *address) {
    if (list->len > 0) buf_char(list, ',');
    if (strstr(address, "://") == NULL) buf_str(list, "tcp://");
    buf_str(list, address);
}

// One address a line.
static bool read_router_file(const char *path, struct buf *list) {
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    char line[ADDRESS_SIZE];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n #")] = '\0';
        if (line[0]) add_address(list, line);
    }
    fclose(f);
    return true;
}

// What is known of the cluster before it is asked.
struct found {
    struct buf routers, servers; // lists with commas
    char key[2 * CONFIG_PATH_SIZE];
    bool plaintext_anywhere;
};

// The keys that the cluster file speaks of, where the flags leave them open.
static err_id keys_of_file(const struct cluster_config *c, const struct cli_where *where, struct found *found,
                           struct error *e) {
    const struct config_security *s = &c->security;
    struct allow_list list;
    char key[CERTIFICATE_TEXT];
    found->plaintext_anywhere = s->curve == CURVE_OFF && s->plaintext == PLAINTEXT_ANYWHERE;
    if (s->curve == CURVE_OFF) return ERR_NONE;
    if (where->key == NULL) snprintf(found->key, sizeof found->key, "%s/client.cert", s->keys);
    if (where->servers) return ERR_NONE;
    TRY(allow_list_load(s->allow[0] ? s->allow : s->keys, &list, e));
    for (uint32_t i = 0, n = 0; i < list.n && n < ROUTERS_MAX; i++) {
        if (list.entries[i].role != CERTIFICATE_ROUTER) continue;
        certificate_key_text(list.entries[i].public_key, key);
        buf_printf(&found->servers, "%s%s", n++ ? "," : "", key);
    }
    allow_list_free(&list);
    return ERR_NONE;
}

static int read_cluster_file(const char *path, const struct cli_where *where, struct found *found) {
    struct cluster_config *c = xcalloc(1, sizeof *c);
    struct buf *list = &found->routers;
    struct error e = {0};
    int code = 0;
    if (config_load(c, path, NULL, &e) != ERR_NONE || keys_of_file(c, where, found, &e) != ERR_NONE) {
        fprintf(stderr, "shoal: %s\n", error_text(&e));
        code = EXIT_USAGE;
    } else if (where->routers) {
        buf_str(list, where->routers);
    } else if (c->routers.kind == DISCOVER_FILE) {
        if (!read_router_file(c->routers.entries[0], list)) {
            fprintf(stderr, "shoal: %s: cannot read the list of routers %s\n", path, c->routers.entries[0]);
            code = EXIT_USAGE;
        }
    } else {
        for (uint32_t i = 0; i < c->routers.n_entries; i++) add_address(list, c->routers.entries[i]);
    }
    if (code == 0 && list->len == 0) {
        fprintf(stderr, "shoal: %s names no routers; give --routers tcp://host:port\n", path);
        code = EXIT_USAGE;
    }
    free(c);
    return code;
}

static int find_cluster(const struct cli_where *where, struct found *found) {
    static const char *const places[] = {".run/cluster.yaml", "deploy/local/cluster.yaml"};
    if (where->config) return read_cluster_file(where->config, where, found);
    if (where->routers) {
        buf_str(&found->routers, where->routers);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(places[i], R_OK) == 0) return read_cluster_file(places[i], where, found);
    fprintf(stderr, "shoal: there is neither %s nor %s here; say where the routers are with --routers or --config\n",
            places[0], places[1]);
    return EXIT_USAGE;
}

int cli_open(const struct cli_where *where, struct shoal **out) {
    struct found found = {0};
    int code = find_cluster(where, &found);
    struct shoal_failure why;
    struct shoal_options options = {.size = sizeof options, .routers = found.routers.data, .name = "shoal"};
    options.key = where->key ? where->key : found.key[0] ? found.key : NULL;
    options.server_key = where->servers ? where->servers : found.servers.data;
    options.plaintext_anywhere = found.plaintext_anywhere;
    if (code == 0 && shoal_open(&options, out, &why) != 0) code = cli_fail(EXIT_USAGE, &why);
    buf_free(&found.routers);
    buf_free(&found.servers);
    return code;
}

// ---- which model

static char *only_model(const struct shoal_cluster *c) {
    const char *first = NULL;
    for (uint32_t i = 0; i < c->n_replicas; i++) {
        const char *model = c->replicas[i].model;
        if (model[0] == '\0') continue;
        if (first && strcmp(first, model) != 0) {
            fprintf(stderr, "shoal: the cluster serves %s, %s and perhaps more; choose with --model\n", first, model);
            return NULL;
        }
        first = model;
    }
    if (first == NULL) fprintf(stderr, "shoal: the cluster has no replica yet that serves a model\n");
    return first ? xstrdup(first) : NULL;
}

char *cli_model(struct shoal *s, const char *named) {
    if (named) return xstrdup(named);
    struct shoal_cluster *c;
    struct shoal_failure why;
    if (shoal_cluster(s, 5000, &c, &why) != 0) {
        cli_fail(EXIT_USAGE, &why);
        return NULL;
    }
    char *model = only_model(c);
    shoal_cluster_free(c);
    return model;
}

// ---- Ctrl-C

static void *wait_for_interrupt(void *arg) {
    struct cli_interrupt *i = arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    for (int signal_number;;) {
        if (sigwait(&set, &signal_number) != 0) continue;
        pthread_mutex_lock(&i->lock);
        bool again = i->interrupted || i->request_id[0] == '\0';
        i->interrupted = true;
        if (!again) shoal_cancel(i->shoal, i->request_id);
        pthread_mutex_unlock(&i->lock);
        if (again) {
            (void)!write(STDOUT_FILENO, "\n", 1);
            _exit(128 + SIGINT);
        }
    }
    return NULL;
}

void cli_interrupt_init(struct cli_interrupt *i) {
    *i = (struct cli_interrupt){0};
    pthread_mutex_init(&i->lock, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_interrupt, i) == 0) pthread_detach(thread);
}

void cli_interrupt_begin(struct cli_interrupt *i, struct shoal *s, const char *id) {
    pthread_mutex_lock(&i->lock);
    i->shoal = s;
    i->interrupted = false;
    snprintf(i->request_id, sizeof i->request_id, "%s", id);
    pthread_mutex_unlock(&i->lock);
}

bool cli_interrupt_end(struct cli_interrupt *i) {
    pthread_mutex_lock(&i->lock);
    bool interrupted = i->interrupted;
    i->request_id[0] = '\0';
    i->interrupted = false;
    pthread_mutex_unlock(&i->lock);
    return interrupted;
}
