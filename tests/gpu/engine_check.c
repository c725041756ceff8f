// The CUDA engine behind the seam, on a machine with a GPU: engine_check FAMILIES-FOLDER [NAME...]. For every fixture model,
// in the deterministic class: chunks, batches, stages, steps planned ahead, copied blocks and moved KV entries leave the
// bits alone; the tokens are those that sampler.h picks from the logits.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "tests/unit/worker/engine/driver.h"
#include "worker/engine/pipeline.h"
#include "worker/engine/sampler.h"
#include "worker/engine/table.h"
#include "worker/model/model.h"

enum { SLOTS = 24, PROMPT = 150, DECODE = 20, PATH_BYTES = 1024 };

static struct model *model;
static struct engine_opts opts;
static const struct backend *cuda;
static uint32_t prompt[PROMPT], vocab, length;
static float *whole; // [length][vocab] in one chunk after the other of 64

static float *all_logits(struct driver *d, uint32_t slot, uint32_t chunk) {
    float *out = xmalloc((size_t)length * vocab * sizeof *out);
    driver_open(d, slot, NULL, prompt, length, length);
    for (uint32_t at = 0; at < length; at += chunk) {
        uint32_t size = length - at < chunk ? length - at : chunk;
        driver_row(d, slot, prompt + at, size, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(d);
        assert_false(r.rows[0].numeric_error);
        memcpy(out + (size_t)at * vocab, r.rows[0].logits, (size_t)size * vocab * sizeof *out);
    }
    driver_close(d, slot);
    return out;
}

static void same_bits(const char *what, uint32_t how, const float *a, const float *b, size_t tokens) {
    for (size_t i = 0; i < tokens * vocab; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) == 0) continue;
        fail_msg("%s %u: logit %zu of token %zu is %.9g, not %.9g", what, how, i % vocab, i / vocab, (double)b[i],
                 (double)a[i]);
    }
}

static void chunks_leave_the_bits(void **state) {
    const uint32_t chunks[] = {1, 2, 7, 9, 33};
    struct driver d;
    driver_init(&d, cuda, &opts);
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        float *cut = all_logits(&d, 1, chunks[i]);
        same_bits("chunks of", chunks[i], whole, cut, length);
        free(cut);
    }
    driver_fini(&d);
}

static void batches_leave_the_bits(void **state) {
    struct driver d;
    driver_init(&d, cuda, &opts);
    for (uint32_t s = 0; s + 1 < SLOTS; s++) {
        uint32_t n = 1 + s * 5 % length;
        driver_open(&d, s, NULL, prompt + length - n, n, n);
        driver_row(&d, s, prompt + length - n, n, PLAN_LOGITS_LAST);
        driver_run(&d);
    }
    driver_open(&d, SLOTS - 1, NULL, prompt, length, length);
    for (uint32_t at = 0, size = 1; at < length; at += size) {
        size = at < DECODE ? 1 : length - at < 5 ? length - at : 5;
        for (uint32_t s = 0; s + 1 < SLOTS && at < DECODE; s++) driver_row(&d, s, NULL, 1, PLAN_LOGITS_LAST);
        uint32_t before = d.n_rows;
        driver_row(&d, SLOTS - 1, prompt + at, size, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(&d);
        same_bits("in a batch, token", at, whole + (size_t)at * vocab, r.rows[before].logits, size);
    }
    driver_fini(&d);
}

static void stages_leave_the_bits(void **state) {
    uint32_t layers = model_spec(model)->layers, bounds[] = {0, layers / 2, layers};
    struct pipeline_opts p = {.backend = cuda, .engine = opts, .stages = 2, .bounds = bounds};
    struct driver d;
    struct engine *engine;
    struct error e = {0};
    if (layers < 2) return;
    if (pipeline_create(&p, &engine, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    driver_adopt(&d, engine);
    float *staged = all_logits(&d, 0, 11);
    same_bits("stages", 2, whole, staged, length);
    free(staged);
    driver_fini(&d);
}

static struct sampling_params sampling_of(uint32_t slot) {
    struct sampling_params s;
    sampling_params_default(&s);
    s.temperature = slot % 4 == 0 ? 0 : 0.7f + 0.1f * (float)(slot % 7);
    s.seed = 77 + slot;
    if (slot % 2) s.top_p = 0.8f;
    if (slot % 3 == 1) s.top_k = 1 + slot;
    if (slot % 5 == 2) s.min_p = 0.05f;
    if (slot % 5 == 3) s.typical_p = 0.7f;
    if (slot % 3 == 2) s.repetition_penalty = 1.3f;
    if (slot % 4 == 1) s.presence_penalty = 0.7f, s.frequency_penalty = 0.4f;
    s.want_logprob = 1;
    s.logprobs = slot % 6;
    s.n_bias = 1;
    s.bias[0] = (struct sampling_bias){slot % vocab, 2};
    s.n_banned = 1;
    s.banned[0] = (slot + 5) % vocab;
    return s;
}

static void open_all(struct driver *d) {
    for (uint32_t s = 0; s < SLOTS; s++) {
        struct sampling_params params = sampling_of(s);
        uint32_t n = 1 + s * 7 % length;
        driver_open(d, s, &params, prompt, n, n);
        driver_row(d, s, prompt, n, PLAN_LOGITS_LAST);
    }
}

// tokens[step][slot], each step planned before the one before it is answered.
static void decode_ahead(struct driver *d, uint32_t depth, uint32_t tokens[DECODE][SLOTS]) {
    uint64_t steps[DECODE];
    open_all(d);
    for (uint32_t i = 0; i < DECODE + depth; i++) {
        if (i < DECODE) {
            for (uint32_t s = 0; s < SLOTS && i > 0; s++) driver_row(d, s, NULL, 1, PLAN_LOGITS_LAST);
            steps[i] = driver_submit(d);
            driver_sample(d, steps[i]);
        }
        if (i < depth) continue;
        struct engine_result r = driver_result(d, steps[i - depth]);
        for (uint32_t s = 0; s < SLOTS; s++) {
            assert_int_equal(r.rows[s].n_tokens, 1);
            tokens[i - depth][s] = r.rows[s].tokens[0].token;
        }
    }
}

static void steps_planned_ahead_are_the_same(void **state) {
    uint32_t serial[DECODE][SLOTS], ahead[DECODE][SLOTS];
    struct driver d;
    struct engine_opts hidden = opts;
    hidden.show_logits = false;
    for (uint32_t depth = 0; depth < 4; depth++) {
        driver_init(&d, cuda, &hidden);
        decode_ahead(&d, depth, depth == 0 ? serial : ahead);
        driver_fini(&d);
        if (depth > 0) assert_memory_equal(serial, ahead, sizeof serial);
    }
}

static void tokens_are_the_samplers(void **state) {
    uint32_t history[SLOTS][PROMPT + DECODE + 1], n[SLOTS], words = (vocab + 31) / 32, *mask = xmalloc(words * sizeof *mask);
    const uint32_t *masks[SLOTS];
    uint32_t forced[SLOTS];
    struct sampler_work *work = sampler_work_create(vocab);
    struct driver d;
    struct error e = {0};
    driver_init(&d, cuda, &opts);
    open_all(&d);
    for (uint32_t s = 0; s < SLOTS; s++) memcpy(history[s], prompt, sizeof prompt), n[s] = 1 + s * 7 % length;
    for (uint32_t i = 0; i < DECODE; i++) {
        for (uint32_t w = 0; w < words; w++) mask[w] = 0x5a5a1234u * (w + i + 1) | 0x88880000u;
        for (uint32_t s = 0; s < SLOTS && i > 0; s++) driver_row(&d, s, NULL, 1, PLAN_LOGITS_LAST);
        for (uint32_t s = 0; s < SLOTS; s++) {
            masks[s] = (s + i) % 3 == 0 ? mask : NULL;
            forced[s] = (s + i) % 11 == 0 ? (s + i) % vocab : ENGINE_NO_TOKEN;
        }
        uint64_t step = driver_submit(&d);
        if (d.engine->ops->sample(d.engine, step, masks, forced, &e) != ENGINE_OK) fail_msg("%s", error_text(&e));
        struct engine_result r = driver_result(&d, step);
        for (uint32_t s = 0; s < SLOTS; s++) {
            struct sampling_params params = sampling_of(s);
            struct sampler_input in = {r.rows[s].logits,   vocab, &params,  history[s],
                                       1 + s * 7 % length, n[s],  masks[s], forced[s]};
            struct engine_token want;
            bool ok = sampler_pick(work, &in, &want);
            if (ok == r.rows[s].numeric_error) fail_msg("step %u slot %u: ok %d", i, s, ok);
            if (ok && want.token != r.rows[s].tokens[0].token)
                fail_msg("step %u slot %u: token %u, not %u", i, s, r.rows[s].tokens[0].token, want.token);
            if (!ok) continue;
            assert_true(want.logprob - r.rows[s].tokens[0].logprob < 1e-4f &&
                        r.rows[s].tokens[0].logprob - want.logprob < 1e-4f);
            assert_int_equal(want.n_top, r.rows[s].tokens[0].n_top);
            history[s][n[s]++] = want.token;
        }
    }
    driver_fini(&d);
    sampler_work_destroy(&work);
    free(mask);
}

// A span leaves one engine and goes into another, which goes on with the same bits; a wrong hash changes nothing.
static void moved_entries_go_on(void **state) {
    struct driver a, b;
    struct error e = {0};
    uint32_t n = length - 1;
    engine_ticket ticket;
    uint64_t hash;
    driver_init(&a, cuda, &opts);
    driver_init(&b, cuda, &opts);
    driver_open(&a, 3, NULL, prompt, length, length);
    driver_row(&a, 3, prompt, n, PLAN_LOGITS_NONE);
    driver_run(&a);
    uint64_t size = a.info.kv_bytes_per_token * n;
    uint8_t *bytes = xmalloc(size), *again = xmalloc(size);
    struct engine_kv_span span = {.slot = 3, .count = n};
    assert_int_equal(a.engine->ops->kv_export(a.engine, span, bytes, &ticket, &e), ERR_NONE);
    assert_int_equal(a.engine->ops->ticket_poll(a.engine, ticket, &hash, &e), ENGINE_OK);
    driver_open(&b, 5, NULL, prompt, length, length);
    driver_row(&b, 5, prompt + 1, n, PLAN_LOGITS_NONE); // other entries, and blocks
    driver_run(&b);
    span.slot = 5;
    assert_int_equal(b.engine->ops->kv_import(b.engine, span, bytes, hash + 1, &ticket, &e), ERR_PROTOCOL);
    assert_int_equal(b.engine->ops->kv_import(b.engine, span, bytes, hash, &ticket, &e), ERR_NONE);
    assert_int_equal(b.engine->ops->kv_export(b.engine, span, again, &ticket, &e), ERR_NONE);
    assert_memory_equal(bytes, again, size);
    driver_row(&b, 5, prompt + n, 1, PLAN_LOGITS_ALL);
    same_bits("after moving, token", n, whole + (size_t)n * vocab, driver_run(&b).rows[0].logits, 1);
    driver_fini(&a);
    driver_fini(&b);
    free(bytes);
    free(again);
}

// Slot 1 takes copies of slot 0's blocks and goes on alone.
static void copied_blocks_go_on(void **state) {
    struct driver d;
    driver_init(&d, cuda, &opts);
    driver_open(&d, 0, NULL, prompt, length, length);
    driver_row(&d, 0, prompt, length - 1, PLAN_LOGITS_NONE);
    driver_run(&d);
    uint32_t step = d.info.limits.blocks % 7 != 0    ? 7
                    : d.info.limits.blocks % 11 != 0 ? 11
                                                     : 1,
             first = d.free_next, count = d.mapped[0];
    driver_open(&d, 1, NULL, prompt, length, length);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t src = (uint32_t)((i * (uint64_t)step + 3) % d.info.limits.blocks);
        uint32_t dst = (uint32_t)(((first + i) * (uint64_t)step + 3) % d.info.limits.blocks);
        assert_true(plan_builder_delta(&d.builder, 1, i, src)); // named twice: the last one holds
        assert_true(plan_builder_delta(&d.builder, 1, i, dst));
        assert_true(plan_builder_copy(&d.builder, src, dst));
    }
    d.free_next += count;
    d.mapped[1] = count;
    d.length[1] = length - 1;
    driver_row(&d, 1, prompt + length - 1, 1, PLAN_LOGITS_ALL);
    same_bits("copied blocks, token", length - 1, whole + (size_t)(length - 1) * vocab, driver_run(&d).rows[0].logits, 1);
    driver_fini(&d);
}

static int check(const char *folder, const char *name) {
    char path[PATH_BYTES];
    struct error e = {0};
    struct driver d;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (model_open(path, &model, &e) != ERR_NONE || backend_find("cuda", &cuda, &e) != ERR_NONE) {
        fprintf(stderr, "%s: %s\n", name, error_text(&e));
        return 1;
    }
    const struct model_spec *s = model_spec(model);
    vocab = s->vocab;
    length = s->context - DECODE - 1 < PROMPT ? s->context - DECODE - 1 : PROMPT;
    for (uint32_t i = 0; i < PROMPT; i++) prompt[i] = (i * 7919u + i * i * 31u + 5) % vocab;
    opts = (struct engine_opts){.model = model, .slots = SLOTS, .rows = SLOTS, .batch_tokens = 2048, .block_tokens = 16};
    opts.kv_bytes = 64 << 20;
    opts.deterministic = opts.show_logits = true;
    driver_init(&d, cuda, &opts);
    whole = all_logits(&d, 0, 64);
    driver_fini(&d);
    printf("== %s\n", name);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_leave_the_bits),   cmocka_unit_test(batches_leave_the_bits),
        cmocka_unit_test(stages_leave_the_bits),   cmocka_unit_test(steps_planned_ahead_are_the_same),
        cmocka_unit_test(tokens_are_the_samplers), cmocka_unit_test(moved_entries_go_on),
        cmocka_unit_test(copied_blocks_go_on),
    };
    int failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    free(whole);
    model_close(&model);
    return failed;
}

int main(int argc, char **argv) {
    int failed = 0, count = 0;
    if (argc < 2) return 2;
    for (int i = 2; i < argc; i++, count++) failed += check(argv[1], argv[i]);
    struct dirent **names;
    int n = argc > 2 ? 0 : scandir(argv[1], &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') failed += check(argv[1], names[i]->d_name), count++;
        free(names[i]);
    }
    printf("%d models, %d failures\n", count, failed);
    return failed > 0 || count == 0;
}
