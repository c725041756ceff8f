// What is not reading or printing: defaults, rules between keys, looking things up, changing a running configuration.
#include "common/sys/config.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/config_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_defaults(struct cluster_config *c) {
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < CONFIG_KEYS_N; i++) {
        const struct config_key *key = &CONFIG_KEYS[i];
        if (key->fallback && strchr(key->path, '*') == NULL)
            CHECK(config_value_set(key, c, key->path, key->fallback, NULL) == ERR_NONE);
    }
}

static err_id check_timers(const struct config_timers *t, struct error *e) {
    if (t->suspect_ms <= t->heartbeat_ms)
        return error_set(e, ERR_CONFIG, "timers.suspect (%u ms) must be longer than timers.heartbeat (%u ms)", t->suspect_ms,
                         t->heartbeat_ms);
    if (t->dead_ms <= t->suspect_ms)
        return error_set(e, ERR_CONFIG, "timers.dead (%u ms) must be longer than timers.suspect (%u ms)", t->dead_ms,
                         t->suspect_ms);
    return ERR_NONE;
}

static err_id check_weights(const struct cluster_config *c, struct error *e) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->n_regions; i++) sum += c->regions[i].weight;
    if (c->n_regions && sum == 0) return error_set(e, ERR_CONFIG, "regions: at least one weight must be above 0");
    for (uint32_t i = 0; i < c->n_models; i++) {
        const struct config_model *m = &c->models[i];
        sum = 0;
        for (uint32_t j = 0; j < m->n_deployments; j++) sum += m->deployments[j].share;
        if (m->n_deployments == 0)
            return error_set(e, ERR_CONFIG, "models.%s needs at least one entry under deployments", m->name);
        if (sum == 0) return error_set(e, ERR_CONFIG, "models.%s: at least one share must be above 0", m->name);
    }
    return ERR_NONE;
}

static bool answers_to(const struct config_model *m, const char *name) {
    if (strcmp(m->name, name) == 0) return true;
    for (uint32_t i = 0; i < m->n_aliases; i++)
        if (strcmp(m->aliases[i], name) == 0) return true;
    return false;
}

// A name that a request may use must mean one model.
static err_id check_aliases(const struct cluster_config *c, struct error *e) {
    for (uint32_t i = 0; i < c->n_models; i++) {
        const struct config_model *m = &c->models[i];
        for (uint32_t a = 0; a < m->n_aliases; a++) {
            for (uint32_t b = 0; b < a; b++)
                if (strcmp(m->aliases[a], m->aliases[b]) == 0)
                    return error_set(e, ERR_CONFIG, "models.%s names the alias %s twice", m->name, m->aliases[a]);
            for (uint32_t j = 0; j < c->n_models; j++)
                if (j == i ? strcmp(m->name, m->aliases[a]) == 0 : answers_to(&c->models[j], m->aliases[a]))
                    return error_set(e, ERR_CONFIG, "models.%s: the alias %s already means the model %s", m->name,
                                     m->aliases[a], c->models[j].name);
        }
    }
    return ERR_NONE;
}

// A key that would do nothing is a mistake.
static err_id check_security(const struct cluster_config *c, struct error *e) {
    const struct config_security *s = &c->security;
    if (s->curve == CURVE_REQUIRED && !s->keys[0])
        return error_set(e, ERR_CONFIG, "security.curve: required needs security.keys, the folder of the certificates");
    if (s->curve == CURVE_OFF && (s->keys[0] || s->allow[0]))
        return error_set(e, ERR_CONFIG, "security.%s does nothing without security.curve: required",
                         s->keys[0] ? "keys" : "allow");
    if (c->n_tenants && s->curve == CURVE_OFF && !s->api_keys[0])
        return error_set(e, ERR_CONFIG,
                         "tenants does nothing without security.api_keys or security.curve: nobody proves who they are");
    return ERR_NONE;
}

static err_id check_tenants(const struct cluster_config *c, struct error *e) {
    for (uint32_t t = 0; t < c->n_tenants; t++) {
        for (uint32_t m = 0; m < c->tenants[t].n_models; m++) {
            const char *name = c->tenants[t].models[m];
            const struct config_model *model = config_find_model(c, name);
            if (c->n_models == 0 || (model && strcmp(model->name, name) == 0)) continue;
            if (model)
                return error_set(e, ERR_CONFIG, "tenants.%s.models: \"%s\" is an alias; name the model itself, %s",
                                 c->tenants[t].name, name, model->name);
            return error_set(e, ERR_CONFIG, "tenants.%s.models: models has no \"%s\"", c->tenants[t].name, name);
        }
    }
    return ERR_NONE;
}

err_id config_check(const struct cluster_config *c, struct error *e) {
    TRY(check_timers(&c->timers, e));
    TRY(check_weights(c, e));
    TRY(check_aliases(c, e));
    TRY(check_security(c, e));
    return check_tenants(c, e);
}

const struct config_region *config_find_region(const struct cluster_config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_regions; i++)
        if (strcmp(c->regions[i].name, name) == 0) return &c->regions[i];
    return NULL;
}

const struct config_model *config_find_model(const struct cluster_config *c, const char *name_or_alias) {
    for (uint32_t i = 0; i < c->n_models; i++)
        if (answers_to(&c->models[i], name_or_alias)) return &c->models[i];
    return NULL;
}

const struct config_tenant *config_find_tenant(const struct cluster_config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_tenants; i++)
        if (strcmp(c->tenants[i].name, name) == 0) return &c->tenants[i];
    return NULL;
}

const struct config_deployment *config_find_deployment(const struct config_model *m, const char *name) {
    for (uint32_t i = 0; i < m->n_deployments; i++)
        if (strcmp(m->deployments[i].name, name) == 0) return &m->deployments[i];
    return NULL;
}

// Compares two structs below `prefix`, key by key, and lists those that differ and need a restart.
static void compare(const char *prefix, const void *a, const void *b, struct buf *names) {
    char word[NAME_SIZE], path[CONFIG_KEY_PATH_SIZE];
    for (size_t at = 0; config_key_child(prefix, &at, word);) {
        config_key_join(prefix, word, path);
        const struct config_key *key = config_key_find(path);
        if (key == NULL) {
            compare(path, a, b, names);
        } else if (key->type == CONFIG_MAP) {
            uint32_t n = config_element_count(key, a);
            bool same = n == config_element_count(key, b);
            for (uint32_t i = 0; same && i < n; i++)
                same = strcmp(config_element(key, a, i), config_element(key, b, i)) == 0; // the names, in their order
            char below[CONFIG_KEY_PATH_SIZE];
            config_key_join(path, "*", below);
            for (uint32_t i = 0; same && i < n; i++)
                compare(below, config_element(key, a, i), config_element(key, b, i), names);
            if (!same) buf_printf(names, "%s%s", names->len ? ", " : "", path);
        } else if (!key->reloadable) {
            struct buf x = {0}, y = {0};
            config_value_print(key, a, &x);
            config_value_print(key, b, &y);
            if (strcmp(x.data, y.data) != 0) buf_printf(names, "%s%s", names->len ? ", " : "", path);
            buf_free(&x);
            buf_free(&y);
        }
    }
}

err_id config_apply(struct cluster_config *live, const struct cluster_config *next, struct error *e) {
    struct buf names = {0};
    TRY(config_check(next, e));
    compare("", live, next, &names);
    err_id id = ERR_NONE;
    if (names.len)
        id = error_set(e, ERR_CONFIG, "these keys changed and need a restart: %s", names.data);
    else
        *live = *next;
    buf_free(&names);
    return id;
}
