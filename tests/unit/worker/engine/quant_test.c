// int8 and int4 matrices: how far from what was quantised, and the same bits for any number of rows on every instruction
// set; int8 exactly as its definition says.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/engine/cpu/forms.h"
#include "worker/model/quant.h"

enum { N = 149, ROWS = 13 };

static uint64_t seed = 3;
static float uniform(void) { return (float)(hash_mix(seed += UINT64_C(0x9e3779b97f4a7c15)) % 65536) / 32768 - 1; }

struct world {
    uint32_t k;
    float *w, *x, *bias; // [N][k], [ROWS][k], [N]
    uint8_t *rows;       // [N] quantised
    uint8_t *panels;
};

static struct world make(enum quant quant, enum weight_form form, uint32_t k) {
    uint64_t bytes = quant_row_bytes(quant, k);
    const struct form *f = &forms[form];
    struct world o = {k, xcalloc(N * k, 4), xcalloc(ROWS * k, 4), xcalloc(N, 4), xcalloc(N + 1, bytes), NULL};
    o.panels = xcalloc((N + 15) / 16, form_panel_bytes(form, k));
    for (uint32_t i = 0; i < N * k; i++) o.w[i] = uniform() * (i % k == 5 ? 4 : 0.5f);
    for (uint32_t i = 0; i < ROWS * k; i++) o.x[i] = uniform() * (float)(1 + i / k);
    memset(o.x, 0, 4 * k); // the first token is nothing
    for (uint32_t i = 0; i < N; i++) o.bias[i] = uniform();
    memset(o.w + k, 0, 4 * k); // so is the second output
    for (uint32_t r = 0; r < N; r++) {
        uint8_t *row = o.rows + r * bytes, *panel = o.panels + r / 16 * form_panel_bytes(form, k);
        quant_row(quant, o.w + r * k, k, row);
        if (f->pack_head != NULL) f->pack_head(row, k, r % 16, panel);
        panel += f->panel_head, row += f->file_head;
        for (uint32_t at = 0; at < k; at += f->block, row += f->file_bytes, panel += f->panel_bytes) {
            uint8_t block[64] = {0};
            memcpy(block, row, f->file_bytes < k - at || f->block > 4 ? f->file_bytes : k - at);
            f->pack(block, r % 16, panel);
        }
    }
    return o;
}

static void drop(struct world *o) { free(o->w), free(o->x), free(o->bias), free(o->rows), free(o->panels); }

static void run(const struct world *o, const struct kernels *kernels, enum weight_form form, uint32_t m, float *out) {
    struct gemm_call c = {.w = o->panels, .panels = (N + 15) / 16, .n = N, .k = o->k, .x = o->x, .ld_x = o->k, .m = m};
    c.out = out, c.ld_out = N, c.bias = o->bias;
    uint32_t csr = kernels_enter();
    kernels->gemm[form](&c);
    kernels_leave(csr);
}

// Element (r, i) as what it was quantised to.
static float int4_value(const struct world *o, uint32_t r, uint32_t i) {
    const uint8_t *b = o->rows + r * quant_row_bytes(QUANT_INT4, o->k) + i / 64 * 36;
    float out[64];
    forms[FORM_INT4].floats(b, out);
    return out[i % 64];
}

static float int8_expected(const struct world *o, uint32_t t, uint32_t r) {
    const uint8_t *row = o->rows + r * quant_row_bytes(QUANT_INT8, o->k);
    float scale, most = 0;
    int32_t sum = 0;
    memcpy(&scale, row, 4);
    for (uint32_t i = 0; i < o->k; i++) most = fmaxf(most, fabsf(o->x[t * o->k + i]));
    float x_scale = most / 127, inverse = x_scale > 0 ? 1 / x_scale : 0;
    for (uint32_t i = 0; i < o->k; i++) sum += (int8_t)row[4 + i] * (int32_t)rintf(o->x[t * o->k + i] * inverse);
    return (float)sum * (scale * x_scale) + o->bias[r];
}

static void same_everywhere(const struct world *o, enum weight_form form, float *first) {
    static float out[ROWS * N];
    run(o, kernels_pick(ISA_GENERIC), form, ROWS, first);
    for (uint32_t isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        const struct kernels *kernels = kernels_pick(isa);
        for (uint32_t m = 1; kernels != NULL && m <= ROWS; m++) {
            memset(out, 0xff, sizeof out);
            run(o, kernels, form, m, out);
            assert_memory_equal(out, first, m * N * sizeof *out);
        }
    }
}

static const uint32_t widths[] = {2, 30, 64, 96, 206, 1536}; // ends within words, groups and strips

static void int8_is_whole_numbers_times_two_scales(void **state) {
    static float out[ROWS * N];
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        struct world o = make(QUANT_INT8, FORM_INT8, widths[i]);
        same_everywhere(&o, FORM_INT8, out);
        for (uint32_t t = 0; t < ROWS; t++) {
            for (uint32_t r = 0; r < N; r++) assert_true(out[t * N + r] == int8_expected(&o, t, r));
        }
        drop(&o);
    }
}

static void int4_is_within_half_a_step(void **state) {
    static float out[ROWS * N];
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        struct world o = make(QUANT_INT4, FORM_INT4, widths[i]);
        same_everywhere(&o, FORM_INT4, out);
        for (uint32_t r = 0; r < N; r++) {
            double dot = o.bias[r];
            for (uint32_t k = 0; k < o.k; k++) {
                float v = int4_value(&o, r, k), step = 8.0f / 15 / 2; // a group spans at most 8
                assert_true(fabsf(v - o.w[r * o.k + k]) <= step * 1.02f);
                dot += (double)v * (double)o.x[3 * o.k + k];
            }
            assert_true(fabs(dot - (double)out[3 * N + r]) < 2e-4 * sqrt(o.k));
        }
        drop(&o);
    }
}

static void a_token_that_is_not_finite_stays_so_alone(void **state) {
    static float out[ROWS * N];
    struct world o = make(QUANT_INT8, FORM_INT8, 96);
    o.x[2 * o.k + 17] = NAN;
    o.x[4 * o.k + 3] = INFINITY;
    for (uint32_t isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (kernels_pick(isa) == NULL) continue;
        run(&o, kernels_pick(isa), FORM_INT8, ROWS, out);
        for (uint32_t t = 0; t < ROWS; t++) {
            for (uint32_t r = 0; r < N; r++) assert_int_equal(isnan(out[t * N + r]) != 0, t == 2 || t == 4);
        }
    }
    drop(&o);
}

static void half_precision_rounds_to_nearest(void **state) {
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float f = dtype_f16((uint16_t)h), next = dtype_f16((uint16_t)(h + 1));
        assert_int_equal(dtype_to_f16(f), h);
        assert_int_equal(dtype_to_f16(-f), h | 0x8000);
        if (h + 1 < 0x7c00) assert_int_equal(dtype_to_f16((f + next) / 2), h + (h & 1)); // ties to even
    }
    assert_int_equal(dtype_to_f16(65519), 0x7bff);
    assert_int_equal(dtype_to_f16(65520), 0x7c00);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_is_whole_numbers_times_two_scales),
        cmocka_unit_test(int4_is_within_half_a_step),
        cmocka_unit_test(a_token_that_is_not_finite_stays_so_alone),
        cmocka_unit_test(half_precision_rounds_to_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
