// Quantised matrices: what the kernels compute from their panels has the bits of an fp32 matrix with the same values, on
// every instruction set and for any number of rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/hash.h"
#include "tests/unit/worker/gguf/writer.h"
#include "worker/engine/cpu/forms.h"
#include "worker/gguf/types.h"

static const struct {
    enum weight_form form;
    enum gguf_type type;
} quantised[] = {
    {FORM_Q4_0, GGUF_TYPE_Q4_0}, {FORM_Q4_1, GGUF_TYPE_Q4_1}, {FORM_Q5_0, GGUF_TYPE_Q5_0},
    {FORM_Q5_1, GGUF_TYPE_Q5_1}, {FORM_Q8_0, GGUF_TYPE_Q8_0}, {FORM_Q4_K, GGUF_TYPE_Q4_K},
    {FORM_Q5_K, GGUF_TYPE_Q5_K}, {FORM_Q6_K, GGUF_TYPE_Q6_K}, {FORM_F16, GGUF_TYPE_F16},
};

enum { ROWS_MAX = 100 };

struct product {
    uint32_t n, k, m;
    uint8_t *panels;
    float *plain, *x, *bias, *out, *expected;
};

static float uniform(uint64_t *seed) {
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    return (float)(hash_mix(*seed) % 4096) / 2048 - 1;
}

// Row r of the matrix into its lane of both matrices.
static void place_row(const struct product *p, enum weight_form form, uint32_t r, const uint8_t *row) {
    const struct form *f = &forms[form];
    uint32_t lane = r % PANEL_ROWS;
    float floats[256];
    uint8_t *panel = p->panels + r / PANEL_ROWS * form_panel_bytes(form, p->k);
    float *plain = p->plain + (size_t)r / PANEL_ROWS * p->k * PANEL_ROWS;
    for (uint32_t at = 0; at < p->k; at += f->block) {
        uint32_t b = at / f->block;
        if (form == FORM_F16) {
            uint16_t h;
            memcpy(&h, row + 2 * at, 2);
            memcpy(panel + 32 * at + 2 * lane, &h, 2);
            floats[0] = dtype_f16(h);
        } else {
            f->pack(row + (size_t)b * f->file_bytes, lane, panel + (size_t)b * f->panel_bytes);
            f->floats(row + (size_t)b * f->file_bytes, floats);
        }
        for (uint32_t i = 0; i < f->block; i++) plain[(size_t)(at + i) * PANEL_ROWS + lane] = floats[i];
    }
}

static struct product make(enum weight_form form, enum gguf_type type, uint32_t n, uint32_t k, uint64_t seed) {
    struct product p = {.n = n, .k = k};
    uint32_t panels = (n + PANEL_ROWS - 1) / PANEL_ROWS, blocks = k / gguf_types[type].block;
    p.panels = xcalloc(panels, form_panel_bytes(form, k));
    p.plain = xcalloc((size_t)panels * PANEL_ROWS * k, sizeof(float));
    p.x = xcalloc((size_t)ROWS_MAX * k, sizeof(float));
    p.bias = xcalloc(n, sizeof(float));
    p.out = xcalloc((size_t)ROWS_MAX * n, sizeof(float));
    p.expected = xcalloc((size_t)ROWS_MAX * n, sizeof(float));
    uint8_t *row = xmalloc((size_t)blocks * gguf_types[type].bytes);
    for (uint32_t r = 0; r < n; r++) {
        writer_blocks(&seed, type, blocks, row);
        place_row(&p, form, r, row);
    }
    free(row);
    for (uint32_t i = 0; i < ROWS_MAX * k; i++) p.x[i] = uniform(&seed);
    for (uint32_t i = 0; i < n; i++) p.bias[i] = uniform(&seed);
    return p;
}

static void drop(struct product *p) {
    free(p->panels), free(p->plain), free(p->x), free(p->bias), free(p->out), free(p->expected);
}

static void run(const struct product *p, const struct kernels *k, enum weight_form form, uint32_t m, float *out) {
    const void *w = form == FORM_F32 ? (const void *)p->plain : p->panels;
    struct gemm_call c = {.w = w, .panels = (p->n + 15) / 16, .n = p->n, .k = p->k, .x = p->x, .ld_x = p->k, .m = m};
    c.out = out, c.ld_out = p->n, c.bias = p->bias;
    uint32_t csr = kernels_enter();
    k->gemm[form](&c);
    kernels_leave(csr);
}

static void the_bits_are_those_of_an_fp32_matrix_with_the_same_values(void **state) {
    static const uint32_t rows[] = {1, 2, 3, 6, 7, ROWS_MAX};
    for (size_t q = 0; q < ARRAY_LEN(quantised); q++) {
        enum weight_form form = quantised[q].form;
        uint32_t k = forms[form].block == 256 ? 512 : forms[form].block == 1 ? 146 : 224;
        for (uint32_t n = 5; n <= 149; n += 72) { // 5, 77, 149: tails of lanes and of panels
            struct product p = make(form, quantised[q].type, n, k, 100 * q + n);
            run(&p, kernels_pick(ISA_GENERIC), FORM_F32, ROWS_MAX, p.expected);
            for (int isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
                const struct kernels *kernels = kernels_pick((enum isa)isa);
                for (size_t r = 0; kernels != NULL && r < ARRAY_LEN(rows); r++) {
                    memset(p.out, 0xff, (size_t)ROWS_MAX * n * sizeof(float));
                    run(&p, kernels, form, rows[r], p.out);
                    assert_memory_equal(p.out, p.expected, (size_t)rows[r] * n * sizeof(float));
                }
            }
            drop(&p);
        }
    }
}

static void half_precision_is_read_exactly(void **state) {
    for (uint32_t h = 0; h < 0x10000; h++) {
        if ((h & 0x7c00) == 0x7c00) continue;
        float f = dtype_f16((uint16_t)h), sign = h & 0x8000 ? -1 : 1;
        int exponent = h >> 10 & 31;
        float fraction = (float)(h & 1023) + (exponent > 0 ? 1024 : 0);
        float expected = sign * fraction * __builtin_ldexpf(1, (exponent > 0 ? exponent : 1) - 25);
        assert_memory_equal(&f, &expected, sizeof f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bits_are_those_of_an_fp32_matrix_with_the_same_values),
        cmocka_unit_test(half_precision_is_read_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
