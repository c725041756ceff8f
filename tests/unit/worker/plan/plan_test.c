// Step plans: what is built comes out again, every limit holds, and no bytes whatever can lead a reader outside.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "worker/plan/plan.h"

static const struct plan_limits limits = {
    .caps = {4, 16, 6, 3},
    .batch_tokens = 12,
    .slots = 8,
    .blocks = 10,
    .block_tokens = 4,
    .context = 40,
    .vocab = 100,
    .adapters = 2,
    .group_epoch = 3,
};

// A valid plan of two rows; *len its length.
static uint8_t *sample_plan(size_t *len) {
    uint8_t *buffer = aligned_alloc(PLAN_ALIGN, plan_bytes_max(&limits.caps));
    struct plan_builder b;
    uint32_t off;
    plan_builder_init(&b, buffer, &limits.caps, 77);
    b.head.group_epoch = 3;
    assert_true(plan_builder_tokens(&b, (uint32_t[]){5, 6, 7}, 3, &off));
    struct plan_row prefill = {.slot = 2, .q_len = 3, .pos = 8, .token_off = off, .adapter = 1, .logits = PLAN_LOGITS_LAST};
    struct plan_row decode = {.slot = 7,
                              .q_len = 1,
                              .pos = PLAN_POS_DEVICE,
                              .token_off = PLAN_TOKEN_DEVICE,
                              .adapter = PLAN_NO_ADAPTER,
                              .logits = PLAN_LOGITS_LAST};
    assert_true(plan_builder_row(&b, &prefill));
    assert_true(plan_builder_row(&b, &decode));
    assert_true(plan_builder_delta(&b, 2, 9, 4));
    assert_true(plan_builder_copy(&b, 1, 3));
    *len = plan_builder_finish(&b);
    return buffer;
}

static void what_is_built_comes_out_again(void **state) {
    size_t len;
    uint8_t *p = sample_plan(&len);
    struct error e = {0};
    assert_int_equal(plan_check(p, len, &limits, &e), ERR_NONE);
    struct plan_view v = plan_view(p);
    assert_int_equal(v.head->step, 77);
    assert_int_equal(v.head->n_rows, 2);
    assert_int_equal(v.rows[0].pos, 8);
    assert_int_equal(v.rows[1].slot, 7);
    assert_memory_equal(v.tokens, ((uint32_t[]){5, 6, 7}), 12);
    assert_int_equal(v.deltas[0].index, 9);
    assert_int_equal(v.copies[0].dst, 3);
    free(p);
}

static void a_full_section_says_so_and_takes_nothing(void **state) {
    uint8_t *buffer = aligned_alloc(PLAN_ALIGN, plan_bytes_max(&limits.caps));
    struct plan_builder b;
    uint32_t off, tokens[17] = {0};
    plan_builder_init(&b, buffer, &limits.caps, 1);
    b.head.group_epoch = 3;
    assert_false(plan_builder_tokens(&b, tokens, 17, &off));
    assert_true(plan_builder_tokens(&b, tokens, 16, &off));
    assert_false(plan_builder_tokens(&b, tokens, 1, &off));
    struct plan_row row = {.q_len = 1, .adapter = PLAN_NO_ADAPTER};
    for (uint32_t i = 0; i < 4; i++) {
        row.slot = i;
        assert_true(plan_builder_row(&b, &row));
    }
    assert_false(plan_builder_row(&b, &row));
    for (uint32_t i = 0; i < 6; i++) assert_true(plan_builder_delta(&b, 0, i, i));
    assert_false(plan_builder_delta(&b, 0, 0, 0));
    for (uint32_t i = 0; i < 3; i++) assert_true(plan_builder_copy(&b, i, i + 1));
    assert_false(plan_builder_copy(&b, 0, 1));
    size_t len = plan_builder_finish(&b);
    assert_int_equal(len, plan_bytes_max(&limits.caps));
    struct error e = {0};
    assert_int_equal(plan_check(buffer, len, &limits, &e), ERR_NONE);
    free(buffer);
}

static void each_rule_is_checked_and_named(void **state) {
    const struct {
        size_t word; // of the plan, in uint32_t
        uint32_t value;
        const char *sentence;
    } cases[] = {
        {0, 1, "not a step plan"},
        {1, 9, "version 9"},
        {2, 8, "add up"},
        {6, 4, "epoch 4"},
        {8, 5, "add up"},
        {12, 72, "add up"},
        {16, 8, "does not exist"},
        {17, 0, "no tokens"},
        {17, 13, "more tokens than"},
        {18, 38, "leaves the context"},
        {18, 41, "leaves the context"},
        {19, 1, "does not have"},
        {19, 99, "does not have"},
        {19, PLAN_TOKEN_DEVICE, "more than one token"},
        {20, 2, "adapter"},
        {21, 5, "unknown kind"},
        {22, 2, "second"},
        {28, 100, "vocabulary"},
        {31, 8, "delta 0"},
        {32, 10, "delta 0"},
        {33, 10, "delta 0"},
        {34, 10, "copy 0"},
        {34, 3, "copy 0"},
        {35, 10, "copy 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len;
        struct error e = {0};
        uint8_t *p = sample_plan(&len);
        ((uint32_t *)p)[cases[i].word] = cases[i].value;
        assert_int_equal(plan_check(p, len, &limits, &e), ERR_INVALID_ARGUMENT);
        if (strstr(e.text, cases[i].sentence) == NULL) fail_msg("case %zu: %s", i, e.text);
        free(p);
    }
}

static void a_cut_or_misaligned_plan_is_refused(void **state) {
    size_t len;
    struct error e = {0};
    uint8_t *p = sample_plan(&len);
    for (size_t n = 0; n < len; n++) assert_int_equal(plan_check(p, n, &limits, &e), ERR_INVALID_ARGUMENT);
    assert_int_equal(plan_check(p + 4, len - 4, &limits, &e), ERR_INVALID_ARGUMENT);
    free(p);
}

// Follows a plan as an engine would; the sanitizers watch.
static uint64_t follow(const void *p) {
    struct plan_view v = plan_view(p);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < v.head->n_rows; i++) {
        const struct plan_row *r = &v.rows[i];
        assert_true(r->slot < limits.slots && r->q_len >= 1);
        if (r->token_off == PLAN_TOKEN_DEVICE) continue;
        uint32_t n = r->logits == PLAN_LOGITS_VERIFY ? r->q_len - 1 : r->q_len;
        for (uint32_t k = 0; k < n; k++) sum += v.tokens[r->token_off + k];
        assert_true(r->pos == PLAN_POS_DEVICE || r->pos + r->q_len <= limits.context);
    }
    for (uint32_t i = 0; i < v.head->n_deltas; i++) sum += v.deltas[i].block;
    for (uint32_t i = 0; i < v.head->n_copies; i++) sum += v.copies[i].src + v.copies[i].dst;
    return sum;
}

static void no_mutation_leads_a_reader_outside(void **state) {
    enum { ROUNDS = 200000 };
    uint32_t accepted = 0;
    size_t len;
    uint8_t *good = sample_plan(&len), *p = aligned_alloc(PLAN_ALIGN, len);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct philox r = philox4x32((struct philox){{round, 0, 0, 0}}, 42);
        struct error e = {0};
        memcpy(p, good, len);
        static const uint32_t values[] = {0, 1, 2, 3, 7, 8, 64, 99, 100, 0x7fffffff, 0xfffffffe, 0xffffffff};
        for (uint32_t k = 0; k <= r.v[0] % 3; k++) {
            uint32_t at = r.v[1 + k] % (uint32_t)(len / 4);
            ((uint32_t *)p)[at] = r.v[0] >> (8 + k) & 1 ? values[r.v[1 + k] >> 16 & 7] : (r.v[1 + k] >> 8) % 128;
        }
        if (plan_check(p, len, &limits, &e) != ERR_NONE) continue;
        accepted++;
        follow(p);
    }
    assert_in_range(accepted, ROUNDS / 100, ROUNDS - ROUNDS / 100); // both answers were exercised
    free(p);
    free(good);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_built_comes_out_again),      cmocka_unit_test(a_full_section_says_so_and_takes_nothing),
        cmocka_unit_test(each_rule_is_checked_and_named),     cmocka_unit_test(a_cut_or_misaligned_plan_is_refused),
        cmocka_unit_test(no_mutation_leads_a_reader_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
