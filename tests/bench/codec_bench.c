// How long one message takes to encode and to decode, for the hot kinds. Prints nanoseconds, the best of five rounds.
#include "proto/codec.h"

#include <stdio.h>
#include <time.h>

enum { ROUNDS = 5, CALLS = 100000 };

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(const char *name, const struct msg *m) {
    struct buf out = {0};
    struct codec_arena arena = {0};
    double encode = 1e18, decode = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (int i = 0; i < CALLS; i++) {
            buf_reset(&out);
            codec_encode(m, &out);
        }
        double middle = now_ns();
        for (int i = 0; i < CALLS; i++) {
            struct msg back;
            codec_arena_reset(&arena);
            if (codec_decode((uint8_t *)out.data, out.len, &arena, &back, NULL) != ERR_NONE) return;
        }
        double end = now_ns();
        if (middle - start < encode) encode = middle - start;
        if (end - middle < decode) decode = end - middle;
    }
    printf("%-22s %6zu bytes  encode %7.0f ns  decode %7.0f ns\n", name, out.len, encode / CALLS, decode / CALLS);
    buf_free(&out);
    codec_arena_free(&arena);
}

int main(void) {
    const struct stream_key key = {.request = {.bytes = {1, 2, 3}}};
    const struct attempt attempt = {0, 1, 0x123456789abcdef};
    struct record records[RECORDS_PER_FRAME];
    for (int i = 0; i < RECORDS_PER_FRAME; i++)
        records[i] = (struct record){.token = 1000 + (uint32_t)i, .text = " word", .text_len = 5};
    struct msg m = {.kind = MSG_TOKENS, .tokens = {.key = key, .attempt = attempt, .offset = 500}};
    static const uint32_t counts[] = {1, 16, RECORDS_PER_FRAME};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char name[32];
        snprintf(name, sizeof name, "tokens of %u", counts[i]);
        m.tokens.records = (struct records){.array = records, .count = counts[i]};
        measure(name, &m);
    }
    m = (struct msg){.kind = MSG_ACK, .ack = {.key = key, .attempt = attempt, .next = 501}};
    measure("ack", &m);
    struct deployment_status load = {
        .groups = STATUS_LOAD | STATUS_COUNTERS, .running = 7, .queued_tokens = 900, .blocks_free = 90};
    m = (struct msg){.kind = MSG_STATUS, .status = {.seq = 900}};
    measure("status, empty", &m);
    m.status.n_deployments = 1, m.status.deployments = &load;
    measure("status, load", &m);
    load.groups = STATUS_ALL, m.status.full = m.status.has_life = true, m.status.state = LIFECYCLE_READY;
    snprintf(load.info.model, NAME_SIZE, "r1"), snprintf(load.info.deployment, NAME_SIZE, "blue");
    measure("status, full", &m);
    return 0;
}
