// What the router's core costs: one Tokens message of one record, and one request from submission to release (decision,
// placement, Accepted, Done), with a number of replicas. Also memory for a waiting stream is not counted here: see
// router_core_counters.
#include "router/core/router_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    struct router_core *core;
    struct msg_generate last;
    link_id link;
    uint64_t sent;
};

static void on_send(void *ctx, link_id link, const struct msg *m) {
    struct bench *b = ctx;
    b->sent++;
    if (m->kind == MSG_GENERATE) b->last.key = m->generate.key, b->last.attempt = m->generate.attempt, b->link = link;
}

static void on_event(void *ctx, struct session *s, void *user, enum session_event event) {}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void add_worker(struct bench *b, uint32_t i) {
    struct msg m = {.kind = MSG_HELLO, .hello = {.protocol_min = 1, .protocol_max = 1, .role = ROLE_WORKER}};
    m.hello.incarnation = 5000 + i;
    snprintf(m.hello.name, NAME_SIZE, "w%u", i);
    snprintf(m.hello.region, NAME_SIZE, "here");
    struct deployment_status d = {.groups = STATUS_ALL, .replicas_ready = 1, .prefill_rate = 1e4f, .decode_rate = 1e3f};
    snprintf(d.info.model, NAME_SIZE, "m");
    snprintf(d.info.deployment, NAME_SIZE, "d");
    d.info.max_seqs = 32;
    struct msg s = {.kind = MSG_STATUS, .status = {.seq = 1, .full = true, .has_life = true, .state = LIFECYCLE_READY}};
    s.status.n_deployments = 1, s.status.deployments = &d;
    router_core_link_opened(b->core, i + 1, false, 1);
    router_core_message(b->core, i + 1, &m, 1);
    router_core_message(b->core, i + 1, &s, 1);
}

static struct session *submit(struct bench *b, uint64_t id) {
    struct msg_generate g = {.max_tokens = 64, .prompt_bytes = 400};
    struct msg_rejected rejected;
    memcpy(g.key.request.bytes, &id, sizeof id);
    snprintf(g.model, NAME_SIZE, "m");
    struct session *s = router_core_submit(b->core, &g, NULL, &rejected, 1);
    if (s == NULL) printf("refused: %s\n", rejected.error.text), exit(1);
    return s;
}

static void say_done(struct bench *b) {
    struct msg m = {.kind = MSG_DONE, .done = {.key = b->last.key, .attempt = b->last.attempt}};
    router_core_message(b->core, b->link, &m, 1);
}

static void measure(uint32_t workers, uint32_t open) {
    struct router_core_options o = {.incarnation = 1, .sessions_max = 1000000, .queue_max = 1000000};
    o.queue_tokens_max = 1000000000;
    o.timers = (struct link_timers){100, 300, 1000};
    snprintf(o.self.region, NAME_SIZE, "here");
    struct bench b = {0};
    struct sink sink = {&b, on_send};
    struct session_output output = {&b, on_event};
    b.core = router_core_create(&o, &sink, &output, 1);
    for (uint32_t i = 0; i < workers; i++) add_worker(&b, i);
    uint64_t id = 0;
    struct session *kept = NULL;
    for (uint32_t i = 0; i < open; i++) kept = submit(&b, ++id); // streams that stay open
    struct record r = {.token = 7, .text = " word", .text_len = 5};
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = b.last.key, .attempt = b.last.attempt}};
    m.tokens.records = (struct records){.array = &r, .count = 1};
    enum { TOKENS = 1000000, CYCLES = 100000 };
    double start = now_ns();
    for (uint32_t i = 0; i < TOKENS; i++) m.tokens.offset = i, router_core_message(b.core, b.link, &m, 1);
    double tokens_ns = (now_ns() - start) / TOKENS;
    router_core_cancel(b.core, kept, 1);
    start = now_ns();
    for (uint32_t i = 0; i < CYCLES; i++) {
        struct session *s = submit(&b, ++id);
        say_done(&b);
        router_core_release(b.core, s, 1);
    }
    double cycle_ns = (now_ns() - start) / CYCLES;
    printf("%5u replicas, %6u streams open: %4.0f ns per Tokens message, %5.0f ns per request\n", workers, open, tokens_ns,
           cycle_ns);
    router_core_destroy(b.core);
}

int main(void) {
    measure(4, 100);
    measure(100, 2000);
    measure(1000, 10000);
    return 0;
}
