// The codec of a sequence's state: what was written is read back, and nothing else is believed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/plan/sequence_state.h"

enum { TOKENS = 37, COMPUTED = 36, PER_TOKEN = 24 };

struct sample {
    struct sequence_state state;
    uint32_t tokens[TOKENS];
    uint8_t entries[2][COMPUTED * PER_TOKEN];
};

static void make(struct sample *s, uint32_t n_parts) {
    *s = (struct sample){.state = {.n_tokens = TOKENS, .n_prompt = 30, .n_computed = COMPUTED, .n_parts = n_parts}};
    strcpy(s->state.fingerprint, "00112233445566778899aabbccddeeff");
    s->state.key = (struct stream_key){.request = {.bytes = {1, 2, 3}}};
    for (uint32_t i = 0; i < TOKENS; i++) s->tokens[i] = 100 + i;
    s->state.tokens = s->tokens;
    for (uint32_t p = 0; p < n_parts; p++) {
        for (size_t i = 0; i < sizeof s->entries[p]; i++) s->entries[p][i] = (uint8_t)hash_mix(p * 10000 + i);
        s->state.parts[p] = (struct state_part){.stage = p, .layer_first = 2 * p, .layer_end = 2 * p + 2};
        s->state.parts[p].bytes_per_token = PER_TOKEN;
        s->state.parts[p].hash = hash_bytes(s->entries[p], sizeof s->entries[p], 0);
    }
}

static uint8_t *manifest_of(const struct sequence_state *s, size_t *len) {
    *len = state_manifest_bytes(s);
    uint8_t *bytes = xmalloc(*len);
    state_manifest_encode(s, bytes);
    return bytes;
}

static uint8_t *part_of(const struct sample *s, uint32_t part, size_t *len) {
    *len = STATE_PART_HEAD_BYTES + sizeof s->entries[part];
    uint8_t *bytes = xmalloc(*len);
    state_part_head_encode(&s->state, part, bytes);
    memcpy(bytes + STATE_PART_HEAD_BYTES, s->entries[part], sizeof s->entries[part]);
    return bytes;
}

static void a_state_is_read_back_as_it_was_written(void **state) {
    for (uint32_t n_parts = 0; n_parts <= 2; n_parts++) {
        struct sample s;
        struct sequence_state got;
        struct error e = {0};
        size_t len;
        make(&s, n_parts);
        uint8_t *bytes = manifest_of(&s.state, &len);
        assert_int_equal(state_manifest_decode(bytes, len, &got, &e), ERR_NONE);
        assert_string_equal(got.fingerprint, s.state.fingerprint);
        assert_true(stream_key_equal(&got.key, &s.state.key));
        assert_true(got.n_tokens == TOKENS && got.n_prompt == 30 && got.n_computed == COMPUTED && got.n_parts == n_parts);
        assert_memory_equal(got.tokens, s.tokens, sizeof s.tokens);
        assert_memory_equal(got.parts, s.state.parts, n_parts * sizeof got.parts[0]);
        for (uint32_t p = 0; p < n_parts; p++) {
            size_t part_len;
            uint8_t *part = part_of(&s, p, &part_len);
            assert_int_equal(state_part_check(&got, p, part, part_len, &e), ERR_NONE);
            assert_int_equal(state_part_check(&got, 1 - p, part, part_len, &e) == ERR_NONE, n_parts == 1 && p == 1);
            free(part);
        }
        free(bytes);
    }
}

static void every_flipped_bit_of_a_manifest_is_found(void **state) {
    struct sample s;
    struct sequence_state got;
    size_t len;
    make(&s, 2);
    uint8_t *bytes = manifest_of(&s.state, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct error e = {0};
        assert_int_equal(state_manifest_decode(bytes, len, &got, &e), ERR_PROTOCOL);
        assert_string_not_equal(e.text, "");
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < len; n++) assert_int_equal(state_manifest_decode(bytes, n, &got, NULL), ERR_PROTOCOL);
    free(bytes);
}

static void every_flipped_bit_of_a_part_is_found(void **state) {
    struct sample s;
    size_t len;
    make(&s, 2);
    uint8_t *bytes = part_of(&s, 1, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct error e = {0};
        assert_int_equal(state_part_check(&s.state, 1, bytes, len, &e), ERR_PROTOCOL);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < len; n++) assert_int_equal(state_part_check(&s.state, 1, bytes, n, NULL), ERR_PROTOCOL);
    assert_int_equal(state_part_check(&s.state, 0, bytes, len, NULL), ERR_PROTOCOL); // the other shard's
    free(bytes);
}

static void a_manifest_that_contradicts_itself_is_refused_though_its_hash_is_right(void **state) {
    struct sample s;
    struct sequence_state got;
    size_t len;
    make(&s, 2);
    struct {
        uint32_t *field, value;
    } lies[] = {{&s.state.n_prompt, 0},
                {&s.state.n_prompt, TOKENS + 1},
                {&s.state.n_computed, TOKENS + 1},
                {&s.state.parts[1].stage, 0},
                {&s.state.parts[1].layer_end, 2}};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        uint32_t truth = *lies[i].field;
        *lies[i].field = lies[i].value;
        uint8_t *bytes = manifest_of(&s.state, &len);
        assert_int_equal(state_manifest_decode(bytes, len, &got, NULL), ERR_PROTOCOL);
        free(bytes);
        *lies[i].field = truth;
    }
}

static void a_state_is_used_only_for_what_it_was_made_of(void **state) {
    struct sample s;
    make(&s, 2);
    uint32_t usable, tokens[TOKENS + 5];
    memcpy(tokens, s.tokens, sizeof s.tokens);
    for (uint32_t i = TOKENS; i < TOKENS + 5; i++) tokens[i] = 7;
    struct state_expectation want = {.fingerprint = s.state.fingerprint, .key = s.state.key, .tokens = tokens};
    want.n_parts = 2;
    want.parts = s.state.parts;
    want.n_tokens = TOKENS;
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_NONE);
    assert_int_equal(usable, COMPUTED);
    want.n_tokens = TOKENS + 5; // the router has more: a beginning is enough
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_NONE);
    assert_int_equal(usable, COMPUTED);
    want.n_tokens = 20; // it has less
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_NONE);
    assert_int_equal(usable, 20);
    want.n_tokens = TOKENS;
    tokens[13]++;
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_PROTOCOL);
    assert_int_equal(usable, 0);
    tokens[13]--;
    want.key.choice = 1;
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_PROTOCOL);
    want.key.choice = 0;
    want.fingerprint = "00112233445566778899aabbccddeef0";
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_PROTOCOL);
    want.fingerprint = s.state.fingerprint;
    want.n_parts = 1; // one process for all layers: it goes on from the tokens
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_PROTOCOL);
    struct state_part others[2] = {s.state.parts[0], s.state.parts[1]};
    others[0].layer_end = others[1].layer_first = 1;
    want.n_parts = 2;
    want.parts = others;
    assert_int_equal(state_matches(&s.state, &want, &usable, NULL), ERR_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_read_back_as_it_was_written),
        cmocka_unit_test(every_flipped_bit_of_a_manifest_is_found),
        cmocka_unit_test(every_flipped_bit_of_a_part_is_found),
        cmocka_unit_test(a_manifest_that_contradicts_itself_is_refused_though_its_hash_is_right),
        cmocka_unit_test(a_state_is_used_only_for_what_it_was_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
