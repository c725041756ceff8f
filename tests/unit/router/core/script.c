#include "tests/unit/router/core/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

link_id world_script_as(struct world *w, enum role role, const char *name, const char *region, bool dialled,
                        incarnation_t incarnation) {
    link_id link = ++w->next_link;
    router_core_link_opened(w->core, link, dialled, w->now);
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = 1, .protocol_max = 1, .role = role, .incarnation = incarnation};
    snprintf(m.hello.name, sizeof m.hello.name, "%s", name);
    snprintf(m.hello.region, sizeof m.hello.region, "%s", region);
    world_say(w, link, &m);
    return link;
}

link_id world_script(struct world *w, enum role role, const char *name, const char *region, bool dialled) {
    return world_script_as(w, role, name, region, dialled, ++w->next_incarnation);
}

void world_say(struct world *w, link_id link, const struct msg *m) {
    router_core_message(w->core, link, m, w->now);
    router_core_check(w->core);
}

void world_say_ready(struct world *w, link_id link, const char *model, uint32_t max_seqs, uint64_t seq) {
    struct deployment_status d = {.groups = STATUS_ALL, .replicas_ready = 1, .replicas_total = 1};
    snprintf(d.info.model, sizeof d.info.model, "%s", model);
    snprintf(d.info.deployment, sizeof d.info.deployment, "d");
    snprintf(d.info.fingerprint, sizeof d.info.fingerprint, "f");
    d.info.max_seqs = max_seqs;
    d.prefill_rate = 10000, d.decode_rate = 1000;
    struct msg m = {.kind = MSG_STATUS, .status = {.seq = seq, .full = true, .has_life = true, .state = LIFECYCLE_READY}};
    m.status.n_deployments = 1;
    m.status.deployments = &d;
    world_say(w, link, &m);
}

const struct captured *world_heard(const struct world *w, link_id link, enum msg_kind kind) {
    for (uint32_t i = w->n_captured; i-- > 0;) {
        if (w->captured[i].link == link && w->captured[i].m.kind == kind) return &w->captured[i];
    }
    return NULL;
}

uint32_t world_count(const struct world *w, link_id link, enum msg_kind kind) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_captured; i++) n += w->captured[i].link == link && w->captured[i].m.kind == kind;
    return n;
}

void world_forget(struct world *w) { w->n_captured = 0; }

void script_world(struct world *w) {
    struct router_core_options o;
    world_options(&o);
    world_init(w, &o);
    w->check = true;
}

link_id script_worker(struct world *w, const char *name, uint32_t max_seqs) {
    link_id link = world_script(w, ROLE_WORKER, name, "here", false);
    world_say_ready(w, link, "m", max_seqs, 1);
    return link;
}

const struct msg_generate *script_generate(const struct world *w, link_id link) {
    const struct captured *c = world_heard(w, link, MSG_GENERATE);
    return c ? &c->m.generate : NULL;
}

void script_accepted(struct world *w, link_id link, const struct msg_generate *g) {
    struct msg m = {.kind = MSG_ACCEPTED, .accepted = {.key = g->key, .attempt = g->attempt, .prompt_tokens = 10}};
    m.accepted.max_tokens = 100;
    snprintf(m.accepted.replica, NAME_SIZE, "replica-of-%u", link);
    snprintf(m.accepted.fingerprint, FINGERPRINT_SIZE, "f");
    world_say(w, link, &m);
}

void script_tokens(struct world *w, link_id link, const struct msg_generate *g, uint32_t offset, uint32_t n) {
    struct record records[64];
    for (uint32_t i = 0; i < n; i++) records[i] = (struct record){.token = world_token(g->seed, offset + i), .text = ""};
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = g->key, .attempt = g->attempt, .offset = offset}};
    m.tokens.records = (struct records){.array = records, .count = n};
    world_say(w, link, &m);
}

void script_done(struct world *w, link_id link, const struct msg_generate *g, uint32_t n) {
    struct msg m = {.kind = MSG_DONE,
                    .done = {.key = g->key, .attempt = g->attempt, .n_tokens = n, .tail = "!", .tail_len = 1}};
    world_say(w, link, &m);
}

void script_rejected(struct world *w, link_id link, const struct msg_generate *g, err_id id, uint32_t kills) {
    struct msg m = {.kind = MSG_REJECTED, .rejected = {.key = g->key, .attempt = g->attempt, .kills = kills}};
    error_set(&m.rejected.error, id, "because");
    world_say(w, link, &m);
}

struct msg script_client_generate(uint8_t id) {
    struct msg m = {.kind = MSG_GENERATE, .generate = {.max_tokens = 8, .prompt_bytes = 40}};
    memset(m.generate.key.request.bytes, 0xc0, sizeof m.generate.key.request.bytes);
    m.generate.key.request.bytes[0] = id;
    snprintf(m.generate.model, NAME_SIZE, "m");
    return m;
}

void script_finish(struct world *w, link_id worker, const struct msg_generate *g, uint32_t have, uint32_t total) {
    script_tokens(w, worker, g, have, total - have);
    script_done(w, worker, g, total);
}
