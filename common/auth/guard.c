#include "common/auth/guard.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/endpoint.h"
#include "common/sys/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { LOOK_MS = 1000 };

// A file or folder as it was when it was read last.
struct seen {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct guard {
    struct guard_options options;
    const char *allow_path; // "": no list
    const char *keys_path;
    struct api_keys keys;
    struct allow_list allow;
    struct net_security *security, *group;
    uint8_t own_key[NET_KEY_BYTES];
    struct seen keys_seen, allow_seen;
    uv_timer_t timer;
    struct guard_stats stats;
};

// --- reading, and reading again

static struct seen look(const char *path) {
    struct stat s;
    if (stat(path, &s) != 0) return (struct seen){0};
    return (struct seen){s.st_dev, s.st_ino, s.st_size, s.st_mtim};
}

static bool same(const struct seen *a, const struct seen *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

// A tenant that the configuration does not name would have no rules: that is a mistake.
static err_id check_tenant(const struct guard *g, const char *what, const char *name, const char *tenant, struct error *e) {
    const struct cluster_config *c = g->options.config;
    if (tenant[0] == '\0' || c->n_tenants == 0 || config_find_tenant(c, tenant)) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "the %s %s belongs to the tenant %s, which the configuration does not name", what, name,
                     tenant);
}

static err_id read_keys(struct guard *g, struct error *e) {
    struct api_keys next;
    g->keys_seen = look(g->keys_path);
    TRY(api_keys_load(g->keys_path, &next, e));
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < next.n && id == ERR_NONE; i++)
        id = check_tenant(g, "API key", next.keys[i].name, next.keys[i].tenant, e);
    if (id == ERR_NONE) {
        api_keys_free(&g->keys);
        g->keys = next;
        log_info("api_keys_read", "file=%s keys=%u", g->keys_path, g->keys.n);
    } else {
        error_wrap(e, "%s", g->keys_path);
        api_keys_free(&next);
    }
    return id;
}

static err_id read_allow(struct guard *g, struct error *e) {
    struct allow_list next;
    g->allow_seen = look(g->allow_path);
    TRY(allow_list_load(g->allow_path, &next, e));
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < next.n && id == ERR_NONE; i++)
        id = check_tenant(g, "certificate", next.entries[i].name, next.entries[i].tenant, e);
    if (id == ERR_NONE) {
        allow_list_free(&g->allow);
        g->allow = next;
        log_info("certificates_read", "folder=%s certificates=%u", g->allow_path, g->allow.n);
    } else {
        error_wrap(e, "%s", g->allow_path);
        allow_list_free(&next);
    }
    return id;
}

static bool again(struct guard *g, err_id (*read)(struct guard *g, struct error *e)) {
    struct error e = {0};
    bool ok = read(g, &e) == ERR_NONE;
    g->stats.reloads += ok;
    g->stats.reloads_failed += !ok;
    if (!ok) log_error("keys_not_read", "reason=%s effect=%s", error_text(&e), "the last good ones stay in force");
    return ok;
}

static void renew(struct guard *g, bool keys, bool allow) {
    bool changed = false;
    if (g->keys_path[0] && keys) changed |= again(g, read_keys);
    if (g->allow_path[0] && allow) changed |= again(g, read_allow);
    if (changed && g->options.changed) g->options.changed(g->options.ctx);
}

static void on_timer(uv_timer_t *timer) {
    struct guard *g = timer->data;
    struct seen keys = look(g->keys_path), allow = look(g->allow_path);
    renew(g, !same(&keys, &g->keys_seen), !same(&allow, &g->allow_seen));
}

void guard_reload(struct guard *g) { renew(g, true, true); }

// --- CURVE

static bool allows(void *ctx, const uint8_t key[NET_KEY_BYTES]) { return guard_who(ctx, key) != NULL; }

static bool allows_workers(void *ctx, const uint8_t key[NET_KEY_BYTES]) {
    const struct certificate *who = guard_who(ctx, key);
    return who && who->role == CERTIFICATE_WORKER;
}

// The at-th of that role in the list.
static bool nth(const struct guard *g, enum certificate_role role, uint32_t at, uint8_t key[NET_KEY_BYTES]) {
    for (uint32_t i = 0; i < g->allow.n; i++) {
        if (g->allow.entries[i].role != role || at-- > 0) continue;
        memcpy(key, g->allow.entries[i].public_key, NET_KEY_BYTES);
        return true;
    }
    return false;
}

static bool nth_router(void *ctx, uint32_t at, uint8_t key[NET_KEY_BYTES]) { return nth(ctx, CERTIFICATE_ROUTER, at, key); }

// First our own: the stages of a group mostly share one.
static bool nth_worker(void *ctx, uint32_t at, uint8_t key[NET_KEY_BYTES]) {
    const struct guard *g = ctx;
    if (at > 0) return nth(g, CERTIFICATE_WORKER, at - 1, key);
    memcpy(key, g->own_key, NET_KEY_BYTES);
    return true;
}

static err_id own_certificate(const struct guard *g, struct certificate *out, struct error *e) {
    char path[2 * CONFIG_PATH_SIZE];
    const char *name = g->options.certificate;
    if (strchr(name, '/'))
        snprintf(path, sizeof path, "%s", name);
    else
        snprintf(path, sizeof path, "%s/%s.cert", g->options.config->security.keys, name);
    TRY(certificate_load_secret(path, out, e));
    if (out->role == g->options.role) return ERR_NONE;
    return error_set(e, ERR_CONFIG,
                     "the certificate %s is a %s's; this process needs a %s's (`shoal keygen --role %s`, then --key)", path,
                     certificate_role_name(out->role), certificate_role_name(g->options.role),
                     certificate_role_name(g->options.role));
}

// A router is dialled by everybody in the list; a worker by nobody but the workers of its group.
static err_id open_curve(struct guard *g, struct error *e) {
    struct certificate own = {0};
    struct net_security_options o = {.loop = g->options.loop, .ctx = g, .server = nth_router};
    bool worker = g->options.role == CERTIFICATE_WORKER;
    TRY(own_certificate(g, &own, e));
    memcpy(g->own_key, own.public_key, sizeof g->own_key);
    o.public_key = own.public_key;
    o.secret_key = own.secret_key;
    o.allows = worker ? NULL : allows;
    err_id id = net_security_create(&o, &g->security, e);
    if (id == ERR_NONE && worker) {
        o.allows = allows_workers;
        o.server = nth_worker;
        id = net_security_create(&o, &g->group, e);
    }
    explicit_bzero(own.secret_key, sizeof own.secret_key);
    log_info("curve_on", "certificate=%s role=%s", own.name, certificate_role_name(own.role));
    return id;
}

static err_id open_security(struct guard *g, struct error *e) {
    const struct config_security *s = &g->options.config->security;
    struct net_security_options plaintext = {.loop = g->options.loop};
    if (s->curve == CURVE_REQUIRED) return open_curve(g, e);
    if (s->plaintext == PLAINTEXT_LOOPBACK) return ERR_NONE;
    log_warn("plaintext_anywhere", "effect=%s", "links that leave this host can be read and used by everybody on the way");
    TRY(net_security_create(&plaintext, &g->security, e));
    return net_security_create(&plaintext, &g->group, e);
}

const struct net_security *guard_group_security(const struct guard *g) { return g->group; }
const struct net_security *guard_security(const struct guard *g) { return g->security; }

const struct certificate *guard_who(const struct guard *g, const uint8_t key[CERTIFICATE_KEY_BYTES]) {
    return allow_list_find(&g->allow, key);
}

// --- life

err_id guard_create(const struct guard_options *options, struct guard **out, struct error *e) {
    const struct config_security *s = &options->config->security;
    struct guard *g = xcalloc(1, sizeof *g);
    err_id id = ERR_NONE;
    g->options = *options;
    g->keys_path = options->api_keys ? s->api_keys : "";
    g->allow_path = s->curve == CURVE_OFF ? "" : s->allow[0] ? s->allow : s->keys;
    uv_timer_init(options->loop, &g->timer);
    g->timer.data = g;
    if (g->keys_path[0]) id = read_keys(g, e);
    if (id == ERR_NONE && g->allow_path[0]) id = read_allow(g, e);
    if (id == ERR_NONE) id = open_security(g, e);
    if (g->keys_path[0] || g->allow_path[0]) uv_timer_start(&g->timer, on_timer, LOOK_MS, LOOK_MS);
    *out = g;
    if (id != ERR_NONE) guard_destroy(out);
    return id;
}

static void on_timer_closed(uv_handle_t *handle) { free(handle->data); }

void guard_destroy(struct guard **handle) {
    struct guard *g = *handle;
    *handle = NULL;
    if (g == NULL) return;
    net_security_destroy(&g->security);
    net_security_destroy(&g->group);
    api_keys_free(&g->keys);
    allow_list_free(&g->allow);
    uv_close((uv_handle_t *)&g->timer, on_timer_closed);
}

struct guard_stats *guard_stats(struct guard *g) {
    return &g->stats;
}

void guard_metrics(const struct guard *g, const char *prefix, struct buf *out) {
    const struct guard_stats *s = &g->stats;
    buf_printf(out, "# TYPE %sauth_refused_total counter\n", prefix);
    buf_printf(out, "%sauth_refused_total{why=\"no_key\"} %" PRIu64 "\n", prefix, s->refused_missing);
    buf_printf(out, "%sauth_refused_total{why=\"wrong_key\"} %" PRIu64 "\n", prefix, s->refused_wrong);
    buf_printf(out, "%sauth_refused_total{why=\"forbidden\"} %" PRIu64 "\n", prefix, s->refused_forbidden);
    const struct net_security *asked = g->group ? g->group : g->security;
    if (net_security_has_keys(asked)) {
        const struct net_security_stats *n = net_security_stats(asked);
        buf_printf(out, "# TYPE %scurve_handshakes_total counter\n", prefix);
        buf_printf(out, "%scurve_handshakes_total{outcome=\"admitted\"} %" PRIu64 "\n", prefix, n->admitted);
        buf_printf(out, "%scurve_handshakes_total{outcome=\"refused\"} %" PRIu64 "\n", prefix, n->refused);
    }
    buf_printf(out, "# TYPE %skey_reloads_total counter\n", prefix);
    buf_printf(out, "%skey_reloads_total{outcome=\"read\"} %" PRIu64 "\n", prefix, s->reloads);
    buf_printf(out, "%skey_reloads_total{outcome=\"failed\"} %" PRIu64 "\n", prefix, s->reloads_failed);
}

// --- HTTP

static bool stays_here(const char *address) {
    struct endpoint p;
    return endpoint_parse(address, &p, NULL) == ERR_NONE && p.loopback;
}

err_id guard_check_listener(const struct cluster_config *c, enum guard_listener kind, const char *address, struct error *e) {
    const struct config_security *s = &c->security;
    if (address == NULL || address[0] == '\0' || stays_here(address)) return ERR_NONE;
    struct endpoint p;
    TRY(endpoint_parse(address, &p, e));
    if (kind == GUARD_ADMIN)
        return error_set(e, ERR_CONFIG, "the admin socket asks for no key, so it can't stand on %s; use unix:/path",
                         address);
    if (s->api_keys[0] || s->plaintext == PLAINTEXT_ANYWHERE) return ERR_NONE;
    if (kind == GUARD_METRICS && s->metrics == METRICS_OPEN) return ERR_NONE;
    if (kind == GUARD_METRICS)
        return error_set(
            e, ERR_CONFIG,
            "cannot serve metrics on %s, which others can reach: set security.api_keys, or security.metrics: open "
            "if everybody may read them, or use 127.0.0.1",
            address);
    return error_set(
        e, ERR_CONFIG,
        "cannot serve HTTP on %s, which others can reach, without asking for a key: set security.api_keys (`shoal key "
        "add` makes the file), or use 127.0.0.1, or say security.plaintext: anywhere if that is meant",
        address);
}

void guard_warn_plaintext_http(const char *address) {
    if (address == NULL || address[0] == '\0' || stays_here(address)) return;
    log_warn("http_plaintext", "address=%s effect=%s", address,
             "keys and prompts can be read on the way; put TLS in front, as deploy/nginx does");
}

bool guard_metrics_keyed(const struct cluster_config *c, enum guard_listener kind, const char *address) {
    if (c->security.metrics == METRICS_OPEN || c->security.api_keys[0] == '\0' || kind == GUARD_ADMIN) return false;
    if (address == NULL || address[0] == '\0') return false; // there is no such listener
    return kind == GUARD_API || !stays_here(address);
}

// The key in "Bearer KEY"; NULL: the header is something else.
static const char *bearer(const char *authorization) {
    static const char scheme[] = "bearer ";
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0) return NULL;
    authorization += sizeof scheme - 1;
    return authorization + strspn(authorization, " ");
}

err_id guard_identify(struct guard *g, const char *authorization, struct guard_caller *out, struct error *e) {
    *out = (struct guard_caller){.role = API_OPERATOR};
    if (g->keys_path[0] == '\0') return ERR_NONE;
    const char *text = bearer(authorization);
    if (text == NULL) {
        g->stats.refused_missing++;
        return error_set(e, ERR_UNAUTHENTICATED,
                         "You didn't provide an API key. Send it in the header Authorization: Bearer YOUR_KEY");
    }
    const struct api_key *key = api_keys_find(&g->keys, text, strlen(text));
    if (key == NULL) {
        g->stats.refused_wrong++;
        return error_set(e, ERR_UNAUTHENTICATED, "Incorrect API key provided. Ask whoever runs this cluster for one");
    }
    snprintf(out->tenant, sizeof out->tenant, "%s", key->tenant);
    out->role = key->role;
    return ERR_NONE;
}

err_id guard_identify_operator(struct guard *g, const char *authorization, const char *path, struct guard_caller *out,
                               struct error *e) {
    TRY(guard_identify(g, authorization, out, e));
    if (out->role == API_OPERATOR) return ERR_NONE;
    g->stats.refused_forbidden++;
    return error_set(e, ERR_FORBIDDEN, "%s needs the API key of an operator", path);
}

const char *guard_challenge(const char *authorization) {
    return authorization ? "Bearer realm=\"shoal\", error=\"invalid_token\"" : "Bearer realm=\"shoal\"";
}

bool guard_allows_model(const struct guard *g, const char *tenant, const char *model) {
    const struct cluster_config *c = g->options.config;
    const struct config_tenant *rules = tenant[0] ? config_find_tenant(c, tenant) : NULL;
    const struct config_model *known = config_find_model(c, model);
    const char *name = known ? known->name : model;
    bool allowed = rules == NULL || rules->n_models == 0;
    for (uint32_t i = 0; !allowed && i < rules->n_models; i++) allowed = strcmp(rules->models[i], name) == 0;
    return allowed;
}

err_id guard_check_model(struct guard *g, const char *tenant, const char *model, struct error *e) {
    if (guard_allows_model(g, tenant, model)) return ERR_NONE;
    g->stats.refused_forbidden++;
    return error_set_param(e, ERR_FORBIDDEN, "model", "The tenant %s may not use the model '%.64s'", tenant, model);
}
