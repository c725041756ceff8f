// Little models of every family, made by scripts/make_fixtures, against what transformers answered in fp32; and the CPU
// engine's promise that chunking, batch and instruction set leave the bits alone, kept by every one of them.
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "tests/unit/worker/engine/driver.h"
#include "worker/engine/cpu/cache.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/cpu/kernels.h"
#include "worker/model/model.h"
#include "worker/model/safetensors.h"

enum { FAMILIES_MIN = 27, TOP = 5, OTHERS = 31, PATH_BYTES = 1024, CHUNK = 64, BITS = 130 };
static const float BOUND = 2e-3f; // of max |difference| / max |logit|
// fp32 weights and latent attention: what absorbing W_UK and W_UV may change, the reference being in the expanded form.
static const float BOUND_ABSORBED = 1e-5f;
static const char *folder = SHOAL_FAMILIES;
static int n_w8a8; // families that have this class too

struct family {
    const char *name;
    struct model *model;
    struct tensor_set *expected;
    struct engine_opts opts;
    const uint32_t *prompt;
    uint32_t n, vocab;
};

static const void *expected(const struct family *f, const char *name, uint32_t *n) {
    const struct tensor *t = tensor_set_find(f->expected, name);
    assert_non_null(t);
    *n = (uint32_t)t->dims[0];
    void *copy = xmalloc(t->bytes); // the file aligns nothing
    memcpy(copy, t->data, t->bytes);
    return copy;
}

static void open_family(struct family *f, const char *name) {
    char path[PATH_BYTES];
    struct error e = {0};
    *f = (struct family){.name = name};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (model_open(path, &f->model, &e) != ERR_NONE) fail_msg("%s: %s", name, error_text(&e));
    if (model_note(f->model) != NULL) fail_msg("%s: %s", name, model_note(f->model));
    snprintf(path, sizeof path, "%s/%s/expected", folder, name);
    if (tensor_set_open(path, &f->expected, &e) != ERR_NONE) fail_msg("%s: %s", name, error_text(&e));
    f->prompt = expected(f, "prompt", &f->n);
    f->vocab = model_spec(f->model)->vocab;
    f->opts = (struct engine_opts){
        .model = f->model, .threads = 2, .slots = OTHERS + 1, .rows = OTHERS + 1, .batch_tokens = 512, .block_tokens = 16};
    f->opts.kv_bytes = 64 << 20;
}

static void close_family(struct family *f) {
    free((void *)f->prompt);
    tensor_set_close(&f->expected);
    model_close(&f->model);
}

static void for_each_family(void (*check)(struct family *f)) {
    struct dirent **names;
    int n = scandir(folder, &names, NULL, alphasort), families = 0;
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        struct family f;
        if (names[i]->d_name[0] != '.') {
            open_family(&f, names[i]->d_name);
            check(&f);
            close_family(&f);
            families++;
        }
        free(names[i]);
    }
    free(names);
    assert_true(families >= FAMILIES_MIN || strcmp(folder, SHOAL_FAMILIES) != 0);
}

// Logits after each of the prompt's tokens, the prompt cut into chunks.
static float *all_logits(const struct family *f, struct driver *d, uint32_t slot, uint32_t chunk) {
    float *out = xmalloc((size_t)f->n * f->vocab * sizeof *out);
    driver_open(d, slot, NULL, f->prompt, f->n, f->n);
    for (uint32_t at = 0; at < f->n; at += chunk) {
        uint32_t size = f->n - at < chunk ? f->n - at : chunk;
        driver_row(d, slot, f->prompt + at, size, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(d);
        assert_false(r.rows[0].numeric_error);
        memcpy(out + (size_t)at * f->vocab, r.rows[0].logits, (size_t)size * f->vocab * sizeof *out);
    }
    driver_close(d, slot);
    return out;
}

static void same_bits(const struct family *f, const char *what, uint32_t how, const float *a, const float *b,
                      size_t tokens) {
    if (memcmp(a, b, tokens * f->vocab * sizeof *a) != 0) fail_msg("%s: other bits with %s %u", f->name, what, how);
}

// ---- against the reference ----

static uint32_t largest(const float *l, uint32_t n, const bool *taken) {
    uint32_t best = UINT32_MAX;
    for (uint32_t t = 0; t < n; t++) {
        if (!taken[t] && (best == UINT32_MAX || l[t] > l[best])) best = t;
    }
    return best;
}

// The places of the reference's top tokens are ours as far as its margins can be trusted.
static void same_top(const struct family *f, uint32_t position, const float *want, const float *got, float size) {
    bool *theirs = xcalloc(f->vocab, sizeof *theirs), *ours = xcalloc(f->vocab, sizeof *ours);
    for (uint32_t place = 0; place < TOP; place++) {
        uint32_t a = largest(want, f->vocab, theirs), b = largest(got, f->vocab, ours);
        theirs[a] = ours[b] = true;
        if (want[a] - want[largest(want, f->vocab, theirs)] <= 2 * BOUND * size) break;
        if (a != b) fail_msg("%s: after token %u place %u is token %u, not %u", f->name, position, place, b, a);
    }
    free(theirs);
    free(ours);
}

static bool is_mla(const struct family *f) { return model_spec(f->model)->layer[0].attention.kind == ATTENTION_MLA; }

static float bound_of(const struct family *f) {
    const struct tensor *t = model_tensor(f->model, TENSOR_KV_B, 0, 0);
    return is_mla(f) && t->dtype == DTYPE_F32 ? BOUND_ABSORBED : BOUND;
}

static float compare_logits(const struct family *f, uint32_t position, const float *want, const float *got) {
    float size = 0, worst = 0;
    for (uint32_t t = 0; t < f->vocab; t++) {
        size = fmaxf(size, fabsf(want[t]));
        worst = fmaxf(worst, fabsf(want[t] - got[t]));
    }
    if (!(worst <= bound_of(f) * size)) {
        fail_msg("%s: after token %u the logits are off by %.2e of the largest", f->name, position, (double)(worst / size));
    }
    same_top(f, position, want, got, size);
    return worst / size;
}

// names: of the expected positions, logits, greedy tokens and their margins.
static void check_against(const struct family *f, const char *const names[4]) {
    struct driver d;
    uint32_t n, rows, n_greedy, out[64];
    const uint32_t *positions = expected(f, names[0], &n), *greedy = expected(f, names[2], &n_greedy);
    const float *logits = expected(f, names[1], &rows), *margin = expected(f, names[3], &n_greedy);
    float worst = 0;
    driver_init(&d, &cpu_backend, &f->opts);
    float *got = all_logits(f, &d, 0, CHUNK);
    for (uint32_t i = 0; i < n; i++) {
        float off = compare_logits(f, positions[i], logits + (size_t)i * f->vocab, got + (size_t)positions[i] * f->vocab);
        worst = fmaxf(worst, off);
    }
    struct sampling_params params;
    sampling_params_default(&params);
    params.temperature = 0;
    driver_open(&d, 1, &params, f->prompt, f->n, f->n);
    driver_generate(&d, 1, f->prompt, f->n, 100, out, n_greedy);
    for (uint32_t i = 0; i < n_greedy && margin[i] > 2 * BOUND; i++) {
        if (out[i] != greedy[i]) fail_msg("%s: greedy token %u is %u, not %u", f->name, i, out[i], greedy[i]);
    }
    print_message("%-20s %-12s off by %.1e of the largest\n", f->name, names[1], (double)worst);
    driver_fini(&d);
    free(got);
    free((void *)positions), free((void *)greedy), free((void *)logits), free((void *)margin);
}

static void check_reference(struct family *f) {
    static const char *const plain[] = {"positions", "logits", "greedy", "margin"};
    static const char *const w8a8[] = {"positions", "w8a8_logits", "w8a8_greedy", "w8a8_margin"};
    check_against(f, plain);
    if (tensor_set_find(f->expected, w8a8[1]) == NULL) return;
    f->opts.numeric = ENGINE_NUMERIC_W8A8;
    check_against(f, w8a8);
    n_w8a8++;
}

static void logits_and_greedy_answers_are_the_references(void **state) {
    for_each_family(check_reference);
    assert_true(n_w8a8 > 0 || strcmp(folder, SHOAL_FAMILIES) != 0);
}

// ---- the cache ----

static void check_cache(struct family *f) {
    if (!is_mla(f)) return;
    const struct model_spec *s = model_spec(f->model);
    const struct attention_spec *a = &s->layer[0].attention;
    uint64_t bytes = (uint64_t)(a->kv_lora + a->rope_dim) * s->layers * sizeof(float);
    assert_int_equal(cache_block_bytes(s, 0, s->layers, 16), 16 * bytes);
}

static void latent_attention_keeps_the_latent_and_one_rotated_key_alone(void **state) { for_each_family(check_cache); }

// ---- bits ----

// The prompt decodes token by token among 31 other sequences that decode too.
static void check_batch(const struct family *f, struct driver *d, const float *alone) {
    uint32_t n = f->n < 48 ? f->n : 48;
    for (uint32_t s = 0; s < OTHERS; s++) {
        uint32_t length = 1 + s % f->n;
        driver_open(d, s, NULL, f->prompt + f->n - length, length, length);
        driver_row(d, s, f->prompt + f->n - length, length, PLAN_LOGITS_LAST);
        driver_run(d);
    }
    driver_open(d, OTHERS, NULL, f->prompt, f->n, f->n);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t s = 0; s < OTHERS; s++) driver_row(d, s, NULL, 1, PLAN_LOGITS_LAST);
        driver_row(d, OTHERS, f->prompt + i, 1, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(d);
        same_bits(f, "decoding in a batch, token", i, alone + (size_t)i * f->vocab, r.rows[OTHERS].logits, 1);
    }
    for (uint32_t s = 0; s <= OTHERS; s++) driver_close(d, s);
}

static void check_bits(struct family *f) {
    const uint32_t chunks[] = {1, 7};
    struct driver d;
    if (f->n > BITS) f->n = BITS; // engine_cpu_test goes past a segment of attention
    if (tensor_set_find(f->expected, "w8a8_logits") != NULL) f->opts.numeric = ENGINE_NUMERIC_W8A8; // more that can differ
    driver_init(&d, &cpu_backend, &f->opts);
    float *whole = all_logits(f, &d, 0, CHUNK);
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        float *cut = all_logits(f, &d, 1, chunks[i]);
        same_bits(f, "chunks of", chunks[i], whole, cut, f->n);
        free(cut);
    }
    driver_open(&d, 2, NULL, f->prompt, f->n, f->n);
    driver_row(&d, 2, f->prompt, f->n, PLAN_LOGITS_LAST);
    same_bits(f, "one prefill of", f->n, whole + (size_t)(f->n - 1) * f->vocab, driver_run(&d).rows[0].logits, 1);
    driver_close(&d, 2);
    check_batch(f, &d, whole);
    driver_fini(&d);
    for (uint32_t isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
        if (kernels_pick(isa) == NULL) continue;
        f->opts.isa = isa;
        driver_init(&d, &cpu_backend, &f->opts);
        float *other = all_logits(f, &d, 0, CHUNK);
        same_bits(f, "instruction set", isa, whole, other, f->n);
        free(other);
        driver_fini(&d);
    }
    free(whole);
}

static void bits_depend_on_no_chunking_batch_or_instruction_set(void **state) { for_each_family(check_bits); }

// With a folder of other models, made by scripts/make_fixtures/make.py --random: those instead.
int main(int argc, char **argv) {
    if (argc > 1) folder = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latent_attention_keeps_the_latent_and_one_rotated_key_alone),
        cmocka_unit_test(logits_and_greedy_answers_are_the_references),
        cmocka_unit_test(bits_depend_on_no_chunking_batch_or_instruction_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
