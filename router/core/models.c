// Which models and deployments there are: those of the configuration, and those that workers and peers report.
#include "common/base/check.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

static void copy_name(char out[NAME_SIZE], const char *in) { snprintf(out, NAME_SIZE, "%s", in); }

static bool called(const struct deployment *d, const char *model) {
    if (strcmp(d->model, model) == 0) return true;
    for (uint32_t i = 0; i < d->n_aliases; i++) {
        if (strcmp(d->aliases[i], model) == 0) return true;
    }
    return false;
}

struct deployment *models_find(const struct router_core *core, const char *model, const char *deployment) {
    for (uint32_t i = 0; i < core->n_deployments; i++) {
        struct deployment *d = core->deployments[i];
        if (called(d, model) && strcmp(d->name, deployment) == 0) return d;
    }
    return NULL;
}

// Makes room for one more by forgetting a deployment that nobody has or asks for any more.
static bool forget_one(struct router_core *core) {
    for (uint32_t i = 0; i < core->n_deployments; i++) {
        struct deployment *d = core->deployments[i];
        bool used = d->configured || d->sessions > 0;
        for (uint32_t k = 0; k < d->n_pools; k++) used = used || d->pools[k]->n_offers > 0 || d->pools[k]->dirty;
        if (used) continue;
        deployment_destroy(d);
        core->deployments[i] = core->deployments[--core->n_deployments];
        return true;
    }
    return false;
}

struct deployment *models_add(struct router_core *core, const char *model, const char *deployment) {
    struct deployment *d = models_find(core, model, deployment);
    if (d) return d;
    if (core->n_deployments == CORE_DEPLOYMENTS_MAX && !forget_one(core)) return NULL;
    d = xcalloc(1, sizeof *d);
    copy_name(d->model, model);
    copy_name(d->name, deployment);
    d->share.weight = 1;
    // Just started: it knows of nobody yet, and those who serve it are dialling.
    d->ready_at = core->now - core->started_at <= SEEN_LATELY_MS ? core->now : MS_NEVER;
    wait_queue_init(&d->homeless);
    core->deployments[core->n_deployments++] = d;
    return d;
}

static const struct router_region *region_settings(const struct router_core *core, const char *region) {
    for (uint32_t i = 0; i < core->options.n_regions; i++) {
        if (strcmp(core->options.regions[i].name, region) == 0) return &core->options.regions[i];
    }
    return NULL;
}

struct pool *models_pool(struct router_core *core, struct deployment *d, const char *region) {
    struct pool *p = deployment_pool(d, region);
    if (p) return p;
    if (d->n_pools == REGIONS_MAX) return NULL;
    p = xcalloc(1, sizeof *p);
    p->deployment = d;
    copy_name(p->region, region);
    p->own_region = strcmp(region, core->options.self.region) == 0;
    p->slowness = 1;
    wait_queue_init(&p->queue);
    const struct router_region *settings = region_settings(core, region);
    if (settings) p->share.weight = settings->weight, p->spill_after_ms = settings->spill_after_ms;
    d->pools[d->n_pools++] = p;
    return p;
}

static void add_alias(struct deployment *d, const char *alias) {
    if (alias[0] == '\0' || called(d, alias) || d->n_aliases == ALIASES_MAX) return;
    copy_name(d->aliases[d->n_aliases++], alias);
}

void models_learn(struct deployment *d, const struct deployment_info *info) {
    for (uint32_t i = 0; i < info->n_aliases && i < ALIASES_MAX; i++) add_alias(d, info->aliases[i]);
    if (info->max_context) d->max_context = info->max_context;
    if (info->bytes_per_token > 0) d->bytes_per_token = info->bytes_per_token;
}

void models_configure(struct router_core *core) {
    const struct router_core_options *o = &core->options;
    for (uint32_t i = 0; i < o->n_shares && i < ARRAY_LEN(o->shares); i++) {
        struct deployment *d = models_add(core, o->shares[i].model, o->shares[i].deployment);
        if (d == NULL) continue;
        d->configured = true;
        d->share.weight = o->shares[i].share;
        for (uint32_t k = 0; k < o->shares[i].n_aliases && k < ALIASES_MAX; k++) add_alias(d, o->shares[i].aliases[k]);
    }
}

static bool usable(const struct deployment *d) {
    for (uint32_t i = 0; i < d->n_pools; i++) {
        if (d->pools[i]->usable > 0) return true;
    }
    return false;
}

// The sentence names the model and what there is instead.
static void unknown_model(const struct router_core *core, const char *model, struct error *e) {
    char known[256] = "";
    size_t len = 0;
    for (uint32_t i = 0; i < core->n_deployments; i++) {
        bool again = false;
        for (uint32_t k = 0; k < i; k++)
            again = again || strcmp(core->deployments[k]->model, core->deployments[i]->model) == 0;
        if (again || len + NAME_SIZE + 4 > sizeof known) continue;
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", core->deployments[i]->model);
    }
    error_set_param(e, ERR_MODEL_NOT_FOUND, "model", "there is no model named '%s' here; %s%s", model,
                    len ? "known: " : "none is known yet", known);
}

struct deployment *models_of_fingerprint(const struct router_core *core, const char *model, const char *fingerprint) {
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        for (uint32_t i = 0; i < c->n_offers; i++) {
            struct deployment *d = c->offers[i]->pool->deployment;
            if (called(d, model) && strcmp(c->offers[i]->status.info.fingerprint, fingerprint) == 0) return d;
        }
    }
    return NULL;
}

struct deployment *models_choose(struct router_core *core, const struct msg_generate *g, double work, struct error *e) {
    if (g->deployment[0]) {
        struct deployment *d = models_find(core, g->model, g->deployment);
        if (d == NULL) unknown_model(core, g->model, e);
        return d;
    }
    struct deployment *found[SHARES_MAX], *chosen = NULL;
    struct share *shares[SHARES_MAX];
    bool able[SHARES_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < core->n_deployments && n < SHARES_MAX; i++) {
        struct deployment *d = core->deployments[i];
        if (!called(d, g->model)) continue;
        found[n] = d, shares[n] = &d->share, able[n] = usable(d);
        n++;
    }
    if (n == 0) {
        unknown_model(core, g->model, e);
        return NULL;
    }
    int next = share_next(shares, able, n, work);
    if (next >= 0) {
        share_book(shares, able, n, (uint32_t)next, work);
        return found[next];
    }
    for (uint32_t i = 0; i < n; i++) { // none is ready: the best hope
        if (able[i] || chosen == NULL || (!admission_hopeful(chosen, core->now) && admission_hopeful(found[i], core->now))) {
            chosen = found[i];
        }
    }
    return chosen;
}
