// The CPU engine on GGUF files of every type: a token's logits have the same bits however its sequence was cut, and on
// every instruction set; and fingerprints tell the types apart.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "tests/unit/worker/engine/driver.h"
#include "tests/unit/worker/gguf/writer.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/cpu/kernels.h"
#include "worker/model/model.h"

enum { N = 24 };

// One of each kind of layout; engine_forms_test has the rest.
static const enum gguf_type types[] = {GGUF_TYPE_F16, GGUF_TYPE_Q4_1, GGUF_TYPE_Q5_K, GGUF_TYPE_Q6_K, GGUF_TYPE_Q8_0};

// Logits after each token; threads and instruction set as given.
static float *logits(const struct model *m, uint32_t isa, uint32_t threads, uint32_t chunk, char *fingerprint) {
    struct engine_opts o = {.model = m, .threads = threads, .isa = isa, .slots = 1, .rows = 1, .batch_tokens = N};
    struct driver d;
    uint32_t tokens[N];
    for (uint32_t i = 0; i < N; i++) tokens[i] = (i * 37 + 5) % TINY_VOCAB;
    o.context = N;
    driver_init(&d, &cpu_backend, &o);
    float *out = xmalloc(N * TINY_VOCAB * sizeof *out);
    driver_open(&d, 0, NULL, tokens, N, N);
    for (uint32_t at = 0; at < N; at += chunk) {
        uint32_t n = N - at < chunk ? N - at : chunk;
        driver_row(&d, 0, tokens + at, n, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(&d);
        assert_false(r.rows[0].numeric_error);
        memcpy(out + (size_t)at * TINY_VOCAB, r.rows[0].logits, (size_t)n * TINY_VOCAB * sizeof *out);
    }
    d.engine->ops->fingerprint(d.engine, fingerprint);
    driver_fini(&d);
    return out;
}

static void logits_have_the_same_bits_whatever_the_type_of_the_weights(void **state) {
    static const uint32_t chunks[] = {1, 3, N};
    char fingerprints[ARRAY_LEN(types)][ENGINE_FINGERPRINT_MAX];
    for (size_t type = 0; type < ARRAY_LEN(types); type++) {
        char *path = writer_tiny_file(types[type], 9), again[ENGINE_FINGERPRINT_MAX];
        struct model *m;
        struct error e = {0};
        if (model_open(path, &m, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
        float *first = logits(m, ISA_GENERIC, 1, N, fingerprints[type]);
        for (uint32_t isa = ISA_AVX2; isa < ISA_COUNT; isa++) {
            for (size_t c = 0; kernels_pick(isa) != NULL && c < ARRAY_LEN(chunks); c++) {
                float *other = logits(m, isa, 1 + c, chunks[c], again);
                assert_memory_equal(first, other, N * TINY_VOCAB * sizeof *first);
                assert_string_equal(again, fingerprints[type]);
                free(other);
            }
        }
        for (size_t t = 0; t < type; t++) assert_string_not_equal(fingerprints[t], fingerprints[type]);
        free(first);
        model_close(&m);
        unlink(path);
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_have_the_same_bits_whatever_the_type_of_the_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
