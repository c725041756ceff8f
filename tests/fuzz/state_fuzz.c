// Garbled manifests and parts of sequences: whatever bytes a store gives back, they are refused with a sentence or mean what
// was written. state_fuzz [SEED] [ROUNDS]; prints its seed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/plan/sequence_state.h"

enum { TOKENS_MAX = 200, PER_TOKEN = 16 };

static uint64_t seed = 1;
static uint32_t rounds = 20000, draws;

static uint32_t draw(uint32_t below) { return (uint32_t)(hash_mix(seed * UINT64_C(0x9e3779b97f4a7c15) + draws++) % below); }

struct sample {
    struct sequence_state state;
    uint32_t tokens[TOKENS_MAX];
    uint8_t entries[TOKENS_MAX * PER_TOKEN];
};

static void make(struct sample *s) {
    struct sequence_state *st = &s->state;
    memset(s, 0, sizeof *s);
    st->n_tokens = 1 + draw(TOKENS_MAX);
    st->n_prompt = 1 + draw(st->n_tokens);
    st->n_computed = draw(st->n_tokens);
    st->n_parts = draw(4);
    st->tokens = s->tokens;
    snprintf(st->fingerprint, sizeof st->fingerprint, "%08x", draw(1u << 31));
    for (uint32_t i = 0; i < st->n_tokens; i++) s->tokens[i] = draw(1u << 30);
    for (size_t i = 0; i < sizeof s->entries; i++) s->entries[i] = (uint8_t)draw(256);
    for (uint32_t i = 0; i < st->n_parts; i++) {
        st->parts[i] = (struct state_part){.stage = i, .layer_first = i, .layer_end = i + 1, .bytes_per_token = PER_TOKEN};
        st->parts[i].hash = hash_bytes(s->entries, (size_t)st->n_computed * PER_TOKEN, 0);
    }
}

static size_t garble(uint8_t *bytes, size_t len) {
    uint32_t changes = 1 + draw(6);
    for (uint32_t i = 0; i < changes && len > 0; i++) {
        switch (draw(4)) {
        case 0:
            bytes[draw((uint32_t)len)] ^= (uint8_t)(1 << draw(8));
            break;
        case 1:
            bytes[draw((uint32_t)len)] = draw(2) ? 0xff : 0;
            break;
        case 2:
            len = draw((uint32_t)len);
            break;
        default: // a number of the head becomes another one
            if (len >= 32) memcpy(bytes + 8 + 4 * draw(6), &(uint32_t){draw(2) ? draw(300) : UINT32_MAX - draw(9)}, 4);
            break;
        }
    }
    return len;
}

static void mend_hash(uint8_t *bytes, size_t len) { // so that the checks behind the hash are reached
    if (len < 8) return;
    uint64_t hash = hash_bytes(bytes, len - 8, 0);
    memcpy(bytes + len - 8, &hash, 8);
}

static void check_manifest(const struct sample *s) {
    size_t len = state_manifest_bytes(&s->state);
    uint8_t *bytes = xmalloc(len);
    state_manifest_encode(&s->state, bytes);
    size_t now = garble(bytes, len);
    uint8_t *exact = xmalloc(now ? now : 1); // so that a sanitizer sees what is read beyond
    memcpy(exact, bytes, now);
    if (draw(2)) mend_hash(exact, now);
    struct sequence_state got;
    struct error e = {0};
    err_id id = state_manifest_decode(exact, now, &got, &e);
    if (id == ERR_NONE) {
        assert_true(got.n_prompt > 0 && got.n_prompt <= got.n_tokens && got.n_computed <= got.n_tokens);
        assert_true(state_manifest_bytes(&got) == now);
        uint32_t usable;
        struct state_expectation want = {.fingerprint = s->state.fingerprint, .key = s->state.key, .tokens = s->tokens};
        want.n_tokens = s->state.n_tokens;
        want.n_parts = s->state.n_parts;
        want.parts = s->state.parts;
        if (state_matches(&got, &want, &usable, &e) == ERR_NONE) {
            uint32_t both = got.n_tokens < want.n_tokens ? got.n_tokens : want.n_tokens;
            assert_true(usable <= both && memcmp(got.tokens, s->tokens, both * sizeof *s->tokens) == 0);
        }
    } else {
        assert_true(id == ERR_PROTOCOL && e.text[0] != '\0');
    }
    free(exact);
    free(bytes);
}

static void check_part(const struct sample *s) {
    if (s->state.n_parts == 0) return;
    uint32_t part = draw(s->state.n_parts);
    size_t entries = (size_t)s->state.n_computed * PER_TOKEN, len = STATE_PART_HEAD_BYTES + entries;
    uint8_t *bytes = xmalloc(len), *before = xmalloc(len);
    state_part_head_encode(&s->state, part, bytes);
    memcpy(bytes + STATE_PART_HEAD_BYTES, s->entries, entries);
    memcpy(before, bytes, len);
    size_t now = garble(bytes, len);
    bool same = now == len && memcmp(bytes, before, len) == 0;
    struct error e = {0};
    assert_int_equal(state_part_check(&s->state, part, bytes, now, &e) == ERR_NONE, same);
    free(before);
    free(bytes);
}

static void garbled_states_are_refused_or_mean_what_was_written(void **state) {
    for (uint32_t i = 0; i < rounds; i++) {
        struct sample s;
        make(&s);
        check_manifest(&s);
        check_part(&s);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    if (argc > 2) rounds = (uint32_t)strtoul(argv[2], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(garbled_states_are_refused_or_mean_what_was_written)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
