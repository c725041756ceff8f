// The CPU engine's promise: a token's logits have the same bits however its sequence was cut, batched, threaded, staged or
// moved. (That they are the right logits is for tests/e2e, against an independent reference.)
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "tests/unit/worker/engine/driver.h"
#include "tests/unit/worker/engine/tiny_model.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/cpu/kernels.h"
#include "worker/model/model.h"

enum { VOCAB = 96, CHUNK = 64, LONG = 600 };

static const struct {
    const char *name, *config;
} models[] = {
    {"v3", tiny_v3},       {"v2", tiny_v2},       {"llama", tiny_llama},
    {"qwen2", tiny_qwen2}, {"qwen3", tiny_qwen3}, {"mistral", tiny_mistral},
};

struct fixture {
    char *folder;
    struct model *model;
    struct engine_opts opts;
};

static struct fixture fixture(const char *config, enum tiny_dtype dtype, uint32_t poison) {
    struct fixture f = {.folder = tiny_model_write(config, 11, dtype, poison)};
    struct error e = {0};
    if (model_open(f.folder, &f.model, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    f.opts = (struct engine_opts){
        .model = f.model, .threads = 2, .slots = 33, .rows = 33, .batch_tokens = 320, .block_tokens = 16};
    f.opts.kv_bytes = 16 << 20;
    return f;
}

static void fixture_end(struct fixture *f) {
    model_close(&f->model);
    tiny_model_remove(f->folder);
}

static void tokens_of(uint32_t salt, uint32_t *tokens, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) tokens[i] = philox4x32((struct philox){{i, salt, 0, 0}}, 5).v[0] % VOCAB;
}

// Logits after each of n tokens, the sequence cut into chunks.
static float *all_logits(struct driver *d, uint32_t slot, const uint32_t *tokens, uint32_t n, uint32_t chunk) {
    float *out = xmalloc(n * VOCAB * sizeof *out);
    driver_open(d, slot, NULL, tokens, n, n);
    for (uint32_t at = 0; at < n; at += chunk) {
        uint32_t size = n - at < chunk ? n - at : chunk;
        driver_row(d, slot, tokens + at, size, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(d);
        assert_int_equal(r.rows[0].n_logits, size);
        assert_false(r.rows[0].numeric_error);
        memcpy(out + (size_t)at * VOCAB, r.rows[0].logits, size * VOCAB * sizeof *out);
    }
    driver_close(d, slot);
    return out;
}

static void same_bits(const char *what, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) {
            fail_msg("%s: logit %zu of token %zu is %.9g, not %.9g", what, i % VOCAB, i / VOCAB, (double)b[i], (double)a[i]);
        }
    }
}

static void logits_have_the_same_bits_in_any_chunking(void **state) {
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct fixture f = fixture(models[m].config, TINY_BF16, UINT32_MAX);
        struct driver d;
        uint32_t t[LONG], n = m % 2 == 0 ? LONG : 270; // past two and one segments of attention
        tokens_of(1, t, n);
        driver_init(&d, &cpu_backend, &f.opts);
        float *whole = all_logits(&d, 0, t, n, 64);
        const uint32_t chunks[] = {1, 7, 33};
        for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
            float *cut = all_logits(&d, 0, t, n, chunks[i]);
            same_bits(models[m].name, whole, cut, n * VOCAB);
            free(cut);
        }
        assert_true(whole[0] != whole[1]);
        free(whole);
        driver_fini(&d);
        fixture_end(&f);
    }
}

// 32 sequences of different lengths decode together; one of them is looked at.
static void logits_have_the_same_bits_in_any_batch(void **state) {
    enum { OTHERS = 32, N = 40 };
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct fixture f = fixture(models[m].config, TINY_BF16, UINT32_MAX);
        struct driver d;
        uint32_t t[N], other[400];
        tokens_of(2, t, N);
        driver_init(&d, &cpu_backend, &f.opts);
        float *alone = all_logits(&d, OTHERS, t, N, N);
        for (uint32_t s = 0; s < OTHERS; s++) {
            uint32_t n = 1 + s * 11;
            tokens_of(10 + s, other, n);
            driver_open(&d, s, NULL, other, n, n);
            for (uint32_t at = 0; at < n; at += 256)
                driver_row(&d, s, other + at, n - at < 256 ? n - at : 256, at + 256 < n ? 0 : 1), driver_run(&d);
        }
        driver_open(&d, OTHERS, NULL, t, N, N);
        for (uint32_t i = 0; i < N; i++) {
            bool alone_now = i % 3 == 2; // the batch changes from step to step
            for (uint32_t s = 0; s < OTHERS && !alone_now; s++) driver_row(&d, s, NULL, 1, PLAN_LOGITS_LAST);
            driver_row(&d, OTHERS, t + i, 1, PLAN_LOGITS_ALL);
            struct engine_result r = driver_run(&d);
            same_bits(models[m].name, alone + i * VOCAB, r.rows[r.n_rows - 1].logits, VOCAB);
        }
        free(alone);
        driver_fini(&d);
        fixture_end(&f);
    }
}

static void logits_have_the_same_bits_on_every_instruction_set(void **state) {
    const enum tiny_dtype dtypes[] = {TINY_BF16, TINY_F32};
    for (size_t m = 0; m < ARRAY_LEN(models) * ARRAY_LEN(dtypes); m++) {
        struct fixture f = fixture(models[m / 2].config, dtypes[m % 2], UINT32_MAX);
        uint32_t t[300];
        tokens_of(3, t, 300);
        float *first = NULL;
        for (uint32_t isa = ISA_GENERIC; isa < ISA_COUNT; isa++) {
            struct driver d;
            if (kernels_pick(isa) == NULL) continue;
            f.opts.isa = isa;
            f.opts.threads = 1 + isa % 3;
            driver_init(&d, &cpu_backend, &f.opts);
            float *got = all_logits(&d, 0, t, 300, 50);
            if (first == NULL) {
                first = got;
            } else {
                same_bits(kernels_pick(isa)->name, first, got, 300 * VOCAB);
                free(got);
            }
            driver_fini(&d);
        }
        free(first);
        fixture_end(&f);
    }
}

static void a_resumed_sequence_goes_on_as_the_undisturbed_one(void **state) {
    enum { PROMPT = 30, N = 60 };
    struct sampling_params s;
    sampling_params_default(&s);
    s.seed = 77;
    s.frequency_penalty = 0.3f;
    s.repetition_penalty = 1.1f;
    s.top_p = 0.95f;
    s.want_logprob = 1;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct fixture f = fixture(models[m].config, TINY_BF16, UINT32_MAX);
        struct driver d;
        uint32_t t[PROMPT + N], whole[N], rest[N];
        tokens_of(4, t, PROMPT);
        driver_init(&d, &cpu_backend, &f.opts);
        driver_open(&d, 0, &s, t, PROMPT, PROMPT);
        driver_generate(&d, 0, t, PROMPT, 16, whole, N);
        for (uint32_t k = 1; k < N; k += 19) {
            memcpy(t + PROMPT, whole, k * sizeof *t);
            driver_open(&d, 1, &s, t, PROMPT, PROMPT + k);
            driver_generate(&d, 1, t, PROMPT + k, 64, rest, N - k);
            assert_memory_equal(whole + k, rest, (N - k) * sizeof *rest);
            driver_close(&d, 1);
        }
        driver_fini(&d);
        fixture_end(&f);
    }
}

static void two_stages_give_the_bits_of_one(void **state) {
    enum { N = 64 };
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct fixture f = fixture(models[m].config, TINY_BF16, UINT32_MAX);
        struct driver whole, first, second;
        struct error e = {0};
        uint32_t t[N];
        tokens_of(5, t, N);
        driver_init(&whole, &cpu_backend, &f.opts);
        float *expected = all_logits(&whole, 0, t, N, N);
        f.opts.layer_end = 1;
        driver_init(&first, &cpu_backend, &f.opts);
        f.opts.layer_first = 1;
        f.opts.layer_end = 3;
        driver_init(&second, &cpu_backend, &f.opts);
        driver_open(&first, 0, NULL, t, N, N);
        driver_open(&second, 0, NULL, t, N, N);
        for (uint32_t at = 0; at < N; at += 16) {
            driver_row(&first, 0, t + at, 16, PLAN_LOGITS_NONE);
            driver_row(&second, 0, t + at, 16, PLAN_LOGITS_ALL);
            uint64_t a = driver_submit(&first), b = driver_submit(&second);
            const float *states;
            uint32_t n;
            struct engine_result r;
            assert_int_equal(cpu_backend.result(second.engine, b, 0, &r, &e), ENGINE_PENDING);
            assert_int_equal(cpu_backend.hidden_out(first.engine, a, 1000, &states, &n, &e), ENGINE_OK);
            assert_int_equal(n, 16);
            assert_int_equal(cpu_backend.hidden_in(second.engine, b, states, n, &e), ENGINE_OK);
            driver_result(&first, a);
            r = driver_result(&second, b);
            same_bits(models[m].name, expected + at * VOCAB, r.rows[0].logits, 16 * VOCAB);
        }
        free(expected);
        driver_fini(&whole);
        driver_fini(&first);
        driver_fini(&second);
        fixture_end(&f);
    }
}

static void a_first_stage_takes_the_last_stages_tokens(void **state) {
    struct fixture f = fixture(tiny_v3, TINY_BF16, UINT32_MAX);
    uint32_t t[10], want[12];
    tokens_of(6, t, 10);
    struct driver whole, stage[2];
    struct error e = {0};
    driver_init(&whole, &cpu_backend, &f.opts);
    driver_open(&whole, 0, NULL, t, 10, 10);
    driver_generate(&whole, 0, t, 10, 10, want, 12);
    f.opts.layer_end = 2;
    driver_init(&stage[0], &cpu_backend, &f.opts);
    f.opts.layer_first = 2;
    f.opts.layer_end = 3;
    driver_init(&stage[1], &cpu_backend, &f.opts);
    for (int s = 0; s < 2; s++) driver_open(&stage[s], 0, NULL, t, 10, 10);
    for (uint32_t i = 0; i < 12; i++) {
        for (int s = 0; s < 2; s++) driver_row(&stage[s], 0, i == 0 ? t : NULL, i == 0 ? 10 : 1, PLAN_LOGITS_LAST);
        uint64_t a = driver_submit(&stage[0]), b = driver_submit(&stage[1]);
        const float *states;
        uint32_t n;
        assert_int_equal(cpu_backend.hidden_out(stage[0].engine, a, 1000, &states, &n, &e), ENGINE_OK);
        assert_int_equal(cpu_backend.hidden_in(stage[1].engine, b, states, n, &e), ENGINE_OK);
        driver_sample(&stage[1], b);
        uint32_t token = driver_result(&stage[1], b).rows[0].tokens[0].token;
        assert_int_equal(token, want[i]);
        assert_int_equal(cpu_backend.sample(stage[0].engine, a, NULL, &token, &e), ENGINE_OK);
        assert_int_equal(driver_result(&stage[0], a).rows[0].tokens[0].token, token);
    }
    driver_fini(&whole);
    driver_fini(&stage[0]);
    driver_fini(&stage[1]);
    fixture_end(&f);
}

static void moved_entries_give_the_bits_of_computed_ones(void **state) {
    enum { N = 300 };
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct fixture f = fixture(models[m].config, TINY_BF16, UINT32_MAX);
        struct driver from, to;
        struct error e = {0};
        uint32_t t[N];
        tokens_of(7, t, N);
        driver_init(&from, &cpu_backend, &f.opts);
        f.opts.block_tokens = 64; // the canonical form knows no blocks
        driver_init(&to, &cpu_backend, &f.opts);
        float *expected = all_logits(&from, 0, t, N, 64);
        driver_open(&from, 0, NULL, t, N, N);
        driver_row(&from, 0, t, N, PLAN_LOGITS_LAST);
        driver_run(&from);
        uint8_t *kv = xmalloc(from.info.kv_bytes_per_token * N);
        uint64_t hash = 0;
        engine_ticket ticket;
        assert_int_equal(cpu_backend.kv_export(from.engine, (struct engine_kv_span){0, 0, N - 1}, kv, &ticket, &e),
                         ERR_NONE);
        assert_int_equal(cpu_backend.ticket_poll(from.engine, ticket, &hash, &e), ENGINE_OK);
        driver_open(&to, 0, NULL, t, N, N);
        for (uint32_t i = 0; i < (N + 63) / 64; i++) assert_true(plan_builder_delta(&to.builder, 0, i, 20 - i));
        to.mapped[0] = (N + 63) / 64;
        driver_run(&to);
        kv[5] ^= 1;
        assert_int_equal(cpu_backend.kv_import(to.engine, (struct engine_kv_span){0, 0, N - 1}, kv, hash, &ticket, &e),
                         ERR_PROTOCOL);
        kv[5] ^= 1;
        assert_int_equal(cpu_backend.kv_import(to.engine, (struct engine_kv_span){0, 0, N - 1}, kv, hash, &ticket, &e),
                         ERR_NONE);
        to.length[0] = N - 1;
        driver_row(&to, 0, t + N - 1, 1, PLAN_LOGITS_ALL);
        same_bits(models[m].name, expected + (N - 1) * VOCAB, driver_run(&to).rows[0].logits, VOCAB);
        free(kv);
        free(expected);
        driver_fini(&from);
        driver_fini(&to);
        fixture_end(&f);
    }
}

static void a_poisoned_row_fails_alone(void **state) {
    enum { BAD = 9, N = 20 };
    struct fixture f = fixture(tiny_v3, TINY_BF16, BAD);
    struct driver d;
    uint32_t good[N], bad[N];
    tokens_of(8, good, N);
    for (uint32_t i = 0; i < N; i++) good[i] = good[i] == BAD ? 0 : good[i];
    memcpy(bad, good, sizeof bad);
    bad[N / 2] = BAD;
    driver_init(&d, &cpu_backend, &f.opts);
    float *alone = all_logits(&d, 2, good, N, N);
    driver_open(&d, 0, NULL, bad, N, N);
    driver_open(&d, 1, NULL, good, N, N);
    driver_row(&d, 0, bad, N, PLAN_LOGITS_LAST);
    driver_row(&d, 1, good, N, PLAN_LOGITS_LAST);
    struct engine_result r = driver_run(&d);
    assert_true(r.rows[0].numeric_error);
    assert_int_equal(r.rows[0].n_tokens, 0);
    assert_false(r.rows[1].numeric_error);
    assert_int_equal(r.rows[1].n_tokens, 1);
    same_bits("beside a poisoned row", alone + (N - 1) * VOCAB, r.rows[1].logits, VOCAB);
    free(alone);
    driver_fini(&d);
    fixture_end(&f);
}

static void two_steps_in_flight_give_the_same_tokens(void **state) {
    enum { N = 30 };
    struct fixture f = fixture(tiny_llama, TINY_BF16, UINT32_MAX);
    struct driver d;
    uint32_t t[10], want[N];
    tokens_of(9, t, 10);
    driver_init(&d, &cpu_backend, &f.opts);
    driver_open(&d, 0, NULL, t, 10, 10);
    driver_generate(&d, 0, t, 10, 10, want, N);
    driver_open(&d, 1, NULL, t, 10, 10);
    driver_row(&d, 1, t, 10, PLAN_LOGITS_LAST);
    uint64_t step = driver_submit(&d);
    for (uint32_t i = 0; i < N; i++) {
        driver_row(&d, 1, NULL, 1, PLAN_LOGITS_LAST);
        uint64_t next = driver_submit(&d);
        driver_sample(&d, step);
        assert_int_equal(driver_result(&d, step).rows[0].tokens[0].token, want[i]);
        step = next;
    }
    driver_sample(&d, step);
    driver_result(&d, step);
    driver_fini(&d);
    fixture_end(&f);
}

static void copied_blocks_hold_what_the_originals_held(void **state) {
    struct fixture f = fixture(tiny_v2, TINY_BF16, UINT32_MAX);
    struct driver d;
    uint32_t t[32];
    tokens_of(10, t, 32);
    driver_init(&d, &cpu_backend, &f.opts);
    float *expected = all_logits(&d, 3, t, 32, 32);
    driver_open(&d, 0, NULL, t, 32, 32);
    for (uint32_t i = 0; i < 2; i++) assert_true(plan_builder_delta(&d.builder, 0, i, 100 + i));
    d.mapped[0] = 2;
    driver_row(&d, 0, t, 31, PLAN_LOGITS_NONE);
    driver_run(&d);
    driver_open(&d, 1, NULL, t, 32, 32); // shares the first block, copies the second
    assert_true(plan_builder_delta(&d.builder, 1, 0, 100));
    assert_true(plan_builder_delta(&d.builder, 1, 1, 102));
    assert_true(plan_builder_copy(&d.builder, 101, 102));
    d.mapped[1] = 2;
    d.length[1] = 31;
    driver_row(&d, 1, t + 31, 1, PLAN_LOGITS_ALL);
    same_bits("copied", expected + 31 * VOCAB, driver_run(&d).rows[0].logits, VOCAB);
    free(expected);
    driver_fini(&d);
    fixture_end(&f);
}

static void an_aborted_engine_serves_again_after_quiesce(void **state) {
    struct fixture f = fixture(tiny_v3, TINY_BF16, UINT32_MAX);
    struct driver d;
    uint32_t t[20];
    tokens_of(12, t, 20);
    driver_init(&d, &cpu_backend, &f.opts);
    float *expected = all_logits(&d, 2, t, 20, 20);
    driver_open(&d, 0, NULL, t, 20, 20);
    driver_row(&d, 0, t, 20, PLAN_LOGITS_LAST);
    uint64_t step = driver_submit(&d);
    driver_sample(&d, step);
    cpu_backend.abort(d.engine);
    struct engine_result r;
    struct error e = {0};
    assert_int_equal(cpu_backend.result(d.engine, step, 0, &r, &e), ENGINE_FAILED);
    assert_int_equal(e.id, ERR_CANCELLED);
    cpu_backend.quiesce(d.engine);
    driver_close(&d, 0);
    float *again = all_logits(&d, 1, t, 20, 20);
    same_bits("after an abort", expected, again, 20 * VOCAB);
    free(again);
    free(expected);
    driver_fini(&d);
    fixture_end(&f);
}

// Whoever copies a model over another cuts the mapped file under a worker that loads.
static void a_model_that_is_cut_off_while_it_is_loaded_is_refused(void **state) {
    for (uint32_t eighth = 0; eighth < 8; eighth++) {
        struct fixture f = fixture(tiny_v3, TINY_F32, UINT32_MAX);
        struct engine *engine;
        struct stat st;
        struct error e = {0};
        char path[300];
        snprintf(path, sizeof path, "%s/model.safetensors", f.folder);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(cpu_backend.create(&f.opts, NULL, &engine, &e), ERR_NONE);
        assert_int_equal(truncate(path, st.st_size / 8 * eighth), 0);
        assert_int_equal(cpu_backend.load(engine, NULL, NULL, &e), ERR_MODEL_FILES);
        assert_non_null(strstr(error_text(&e), "model.safetensors could not be read to its end"));
        cpu_backend.destroy(&engine);
        fixture_end(&f);
    }
}

static bool count_progress(void *context, struct engine_load_progress p) {
    uint64_t *seen = context;
    assert_true(p.bytes_done >= seen[0] && p.bytes_done <= p.bytes_total);
    seen[0] = p.bytes_done;
    seen[1] = p.bytes_total;
    return seen[2] == 0;
}

static void loading_tells_its_progress_and_can_be_given_up(void **state) {
    struct fixture f = fixture(tiny_v3, TINY_BF16, UINT32_MAX);
    for (uint64_t give_up = 0; give_up < 2; give_up++) {
        uint64_t seen[3] = {0, 0, give_up};
        struct engine *engine;
        struct error e = {0};
        assert_int_equal(cpu_backend.create(&f.opts, NULL, &engine, &e), ERR_NONE);
        assert_int_equal(cpu_backend.load(engine, count_progress, seen, &e), give_up ? ERR_CANCELLED : ERR_NONE);
        assert_true(seen[0] > 0 && seen[0] == seen[1]);
        cpu_backend.destroy(&engine);
    }
    fixture_end(&f);
}

static void what_does_not_fit_is_refused_with_a_sentence(void **state) {
    struct fixture f = fixture(tiny_llama, TINY_BF16, UINT32_MAX);
    struct engine *engine = NULL;
    struct error e = {0};
    struct engine_opts o = f.opts;
    o.context = 641;
    assert_int_equal(cpu_backend.create(&o, NULL, &engine, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "641"));
    o = f.opts;
    o.block_tokens = 24;
    assert_int_equal(cpu_backend.create(&o, NULL, &engine, &e), ERR_CONFIG);
    o = f.opts;
    o.layer_first = 2;
    o.layer_end = 4;
    assert_int_equal(cpu_backend.create(&o, NULL, &engine, &e), ERR_CONFIG);
    struct driver d;
    driver_init(&d, &cpu_backend, &f.opts);
    struct engine_slot_params p = {.tokens = (uint32_t[]){1, VOCAB}, .n_tokens = 2, .n_prompt = 2};
    sampling_params_default(&p.sampling);
    assert_int_equal(cpu_backend.slot_open(d.engine, 0, &p, &e), ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(e.text, "96"));
    p.n_tokens = 1;
    p.n_prompt = 1;
    p.sampling.top_p = 0;
    assert_int_equal(cpu_backend.slot_open(d.engine, 0, &p, &e), ERR_INVALID_ARGUMENT);
    assert_string_equal(e.param, "top_p");
    driver_fini(&d);
    fixture_end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_have_the_same_bits_in_any_chunking),
        cmocka_unit_test(logits_have_the_same_bits_in_any_batch),
        cmocka_unit_test(logits_have_the_same_bits_on_every_instruction_set),
        cmocka_unit_test(a_resumed_sequence_goes_on_as_the_undisturbed_one),
        cmocka_unit_test(two_stages_give_the_bits_of_one),
        cmocka_unit_test(a_first_stage_takes_the_last_stages_tokens),
        cmocka_unit_test(moved_entries_give_the_bits_of_computed_ones),
        cmocka_unit_test(a_poisoned_row_fails_alone),
        cmocka_unit_test(two_steps_in_flight_give_the_same_tokens),
        cmocka_unit_test(copied_blocks_hold_what_the_originals_held),
        cmocka_unit_test(an_aborted_engine_serves_again_after_quiesce),
        cmocka_unit_test(a_model_that_is_cut_off_while_it_is_loaded_is_refused),
        cmocka_unit_test(loading_tells_its_progress_and_can_be_given_up),
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
