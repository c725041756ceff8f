// A model cut into stages is the same model: same bits, same tokens, and each stage reads its own tensors only.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "tests/unit/worker/engine/driver.h"
#include "tests/unit/worker/engine/tiny_model.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/mock/mock.h"
#include "worker/engine/pipeline.h"
#include "worker/engine/steps.h"
#include "worker/model/model.h"
#include "worker/model/split.h"

enum { VOCAB = 96, PROMPT = 70, ANSWER = 30 };

static const struct {
    const char *name, *config;
} models[] = {{"v3", tiny_v3}, {"llama", tiny_llama}, {"qwen2", tiny_qwen2}}; // the last one's head is tied

static const uint32_t bounds_of[3][4] = {{0, 3}, {0, 1, 3}, {0, 1, 2, 3}};

static struct engine_opts opts_for(const struct model *m) {
    return (struct engine_opts){
        .model = m, .threads = 1, .slots = 8, .rows = 8, .batch_tokens = 128, .block_tokens = 16, .kv_bytes = 8 << 20};
}

static void tokens_of(uint32_t salt, uint32_t *tokens, uint32_t n, uint32_t vocab) {
    for (uint32_t i = 0; i < n; i++) tokens[i] = philox4x32((struct philox){{i, salt, 0, 0}}, 5).v[0] % vocab;
}

static struct model *open_model(const char *folder) {
    struct model *m;
    struct error e = {0};
    if (model_open(folder, &m, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    return m;
}

static void driver_pipeline(struct driver *d, const struct backend *backend, const struct engine_opts *o, uint32_t stages,
                            const uint32_t *bounds) {
    struct pipeline_opts p = {.backend = backend, .engine = *o, .stages = stages, .bounds = bounds};
    struct engine *engine;
    struct error e = {0};
    if (pipeline_create(&p, &engine, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    driver_adopt(d, engine);
}

struct answer {
    uint32_t tokens[ANSWER];
    float logits[ANSWER][VOCAB], prompt[PROMPT][VOCAB];
};

// The logits of each of the prompt's tokens, then an answer with those of each of its tokens.
static void answer(struct driver *d, const struct sampling_params *s, struct answer *a) {
    uint32_t t[PROMPT];
    tokens_of(1, t, PROMPT, VOCAB);
    driver_open(d, 1, s, t, PROMPT, PROMPT);
    for (uint32_t at = 0; at < PROMPT; at += 30) {
        uint32_t n = PROMPT - at < 30 ? PROMPT - at : 30;
        driver_row(d, 1, t + at, n, PLAN_LOGITS_ALL);
        struct engine_result r = driver_run(d);
        memcpy(a->prompt[at], r.rows[0].logits, n * sizeof a->prompt[0]);
    }
    driver_close(d, 1);
    driver_open(d, 0, s, t, PROMPT, PROMPT);
    for (uint32_t i = 0; i < ANSWER; i++) {
        driver_row(d, 0, i == 0 ? t : NULL, i == 0 ? PROMPT : 1, PLAN_LOGITS_LAST);
        struct engine_result r = driver_run(d);
        a->tokens[i] = r.rows[0].tokens[0].token;
        memcpy(a->logits[i], r.rows[0].logits, sizeof a->logits[0]);
    }
    driver_close(d, 0);
}

static void any_number_of_stages_gives_the_same_bits(void **state) {
    struct sampling_params s;
    sampling_params_default(&s);
    s.seed = 41;
    s.frequency_penalty = 0.5f;
    struct answer *whole = xcalloc(1, sizeof *whole), *cut = xcalloc(1, sizeof *cut);
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        char *folder = tiny_model_write(models[m].config, 11, TINY_BF16, UINT32_MAX);
        struct model *model = open_model(folder);
        struct engine_opts o = opts_for(model);
        struct driver d;
        driver_init(&d, &cpu_backend, &o);
        answer(&d, &s, whole);
        char of_whole[ENGINE_FINGERPRINT_MAX], of_cut[ENGINE_FINGERPRINT_MAX];
        d.engine->ops->fingerprint(d.engine, of_whole);
        driver_fini(&d);
        assert_memory_not_equal(whole->logits[0], whole->logits[1], sizeof whole->logits[0]);
        for (uint32_t stages = 1; stages <= 3; stages++) {
            driver_pipeline(&d, &cpu_backend, &o, stages, bounds_of[stages - 1]);
            memset(cut, 0, sizeof *cut);
            answer(&d, &s, cut);
            if (memcmp(whole, cut, sizeof *cut) != 0) fail_msg("%s in %u stages differs", models[m].name, stages);
            d.engine->ops->fingerprint(d.engine, of_cut);
            assert_string_equal(of_whole, of_cut);
            driver_fini(&d);
        }
        model_close(&model);
        tiny_model_remove(folder);
    }
    free(whole);
    free(cut);
}

static void stages_hold_disjoint_bytes_that_make_up_the_file(void **state) {
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        char *folder = tiny_model_write(models[m].config, 11, TINY_BF16, UINT32_MAX);
        struct model *model = open_model(folder);
        struct model_part whole = model_part(model, 0, 3);
        uint64_t shared = model_spec(model)->tied ? model_tensor(model, TENSOR_EMBED, 0, 0)->bytes : 0;
        for (uint32_t stages = 2; stages <= 3; stages++) {
            struct model_part sum = {0};
            for (uint32_t s = 0; s < stages; s++) {
                struct model_part part = model_part(model, bounds_of[stages - 1][s], bounds_of[stages - 1][s + 1]);
                assert_true(part.bytes > 0 && part.bytes < whole.bytes);
                sum.tensors += part.tensors;
                sum.bytes += part.bytes;
            }
            assert_int_equal(sum.bytes, whole.bytes + shared); // a tied head is the one tensor that two stages need
            assert_int_equal(sum.tensors, whole.tensors + (shared > 0));
        }
        model_close(&model);
        tiny_model_remove(folder);
    }
}

// Each stage's model has NaN in every tensor but the stage's own; the logits are those of the whole model all the same.
static void a_stage_reads_no_tensor_of_another(void **state) {
    uint32_t t[PROMPT];
    tokens_of(3, t, PROMPT, VOCAB);
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        char *folder = tiny_model_write(models[m].config, 11, TINY_BF16, UINT32_MAX);
        struct model *model = open_model(folder);
        struct engine_opts o = opts_for(model);
        struct driver whole, stage[3];
        driver_init(&whole, &cpu_backend, &o);
        driver_open(&whole, 0, NULL, t, PROMPT, PROMPT);
        driver_row(&whole, 0, t, PROMPT, PLAN_LOGITS_LAST);
        const float *expected = driver_run(&whole).rows[0].logits;
        uint64_t steps[3];
        struct error e = {0};
        for (uint32_t s = 0; s < 3; s++) {
            char *part = tiny_model_write_part(models[m].config, 11, s, s + 1);
            struct model *own = open_model(part);
            struct engine_opts mine = opts_for(own);
            mine.layer_first = s;
            mine.layer_end = s + 1;
            driver_init(&stage[s], &cpu_backend, &mine);
            model_close(&own);
            tiny_model_remove(part);
            driver_open(&stage[s], 0, NULL, t, PROMPT, PROMPT);
            driver_row(&stage[s], 0, t, PROMPT, PLAN_LOGITS_LAST);
            steps[s] = driver_submit(&stage[s]);
        }
        for (uint32_t s = 0; s < 2; s++) {
            const float *states;
            uint32_t n;
            assert_int_equal(cpu_backend.hidden_out(stage[s].engine, steps[s], 1000, &states, &n, &e), ENGINE_OK);
            assert_int_equal(cpu_backend.hidden_in(stage[s + 1].engine, steps[s + 1], states, n, &e), ENGINE_OK);
        }
        driver_sample(&stage[2], steps[2]);
        struct engine_result r = driver_result(&stage[2], steps[2]);
        assert_false(r.rows[0].numeric_error);
        assert_memory_equal(expected, r.rows[0].logits, VOCAB * sizeof *expected);
        driver_fini(&whole);
        for (uint32_t s = 0; s < 3; s++) driver_fini(&stage[s]);
        model_close(&model);
        tiny_model_remove(folder);
    }
}

// A first stage goes on with the next micro-batch while the one before is with the last stage.
static void a_stage_runs_ahead_of_its_answers_but_not_of_its_tokens(void **state) {
    const struct backend *backends[] = {&cpu_backend, &mock_backend};
    char *folder = tiny_model_write(tiny_llama, 11, TINY_BF16, UINT32_MAX);
    for (size_t b = 0; b < ARRAY_LEN(backends); b++) {
        struct model *model = open_model(folder);
        struct engine_opts o = opts_for(model);
        uint32_t t[20];
        tokens_of(4, t, 20, VOCAB);
        o.mock.layers = 3;
        o.mock.vocab = VOCAB;
        o.context = 256;
        o.layer_end = 2;
        struct driver d;
        driver_init(&d, backends[b], &o);
        const float *states;
        uint32_t n, forced[2] = {7, 8};
        struct error e = {0};
        struct engine_result r;
        for (uint32_t s = 0; s < 2; s++) driver_open(&d, s, NULL, t, 10, 10);
        uint64_t step[3];
        for (uint32_t s = 0; s < 2; s++) driver_row(&d, s, t, 10, PLAN_LOGITS_LAST), step[s] = driver_submit(&d);
        driver_row(&d, 0, NULL, 1, PLAN_LOGITS_LAST);
        step[2] = driver_submit(&d);
        assert_int_equal(backends[b]->hidden_out(d.engine, step[1], 10, &states, &n, &e), ENGINE_PENDING); // out of turn
        assert_int_equal(backends[b]->hidden_out(d.engine, step[0], 10, &states, &n, &e), ENGINE_OK);
        size_t bytes = n * d.info.hidden * sizeof(float);
        float *first = xmalloc(bytes);
        memcpy(first, states, bytes);
        const float *kept = states;
        assert_int_equal(backends[b]->hidden_out(d.engine, step[1], 10, &states, &n, &e), ENGINE_OK);
        assert_memory_equal(first, states, bytes); // the same prompt
        assert_memory_equal(first, kept, bytes);   // valid until its result
        assert_int_equal(backends[b]->hidden_out(d.engine, step[2], 10, &states, &n, &e), ENGINE_PENDING);
        assert_int_equal(backends[b]->sample(d.engine, step[0], NULL, forced, &e), ENGINE_OK);
        assert_int_equal(backends[b]->result(d.engine, step[0], 10, &r, &e), ENGINE_OK);
        assert_int_equal(r.rows[0].tokens[0].token, 7);
        assert_int_equal(backends[b]->hidden_out(d.engine, step[2], 10, &states, &n, &e), ENGINE_OK);
        assert_int_equal(n, 1);
        assert_int_equal(backends[b]->result(d.engine, step[1], 10, &r, &e), ENGINE_FAILED); // not told the tokens
        free(first);
        driver_fini(&d);
        model_close(&model);
    }
    tiny_model_remove(folder);
}

static void the_mock_in_stages_says_the_same_and_misses_a_wrong_state(void **state) {
    uint32_t t[40], whole[ANSWER], cut[ANSWER];
    tokens_of(5, t, 40, 512);
    struct engine_opts o = {.slots = 4, .rows = 4, .batch_tokens = 64, .context = 256, .block_tokens = 8};
    o.mock.layers = 3;
    struct driver d;
    driver_init(&d, &mock_backend, &o);
    driver_open(&d, 0, NULL, t, 40, 40);
    driver_generate(&d, 0, t, 40, 16, whole, ANSWER);
    driver_fini(&d);
    for (uint32_t stages = 2; stages <= 3; stages++) {
        driver_pipeline(&d, &mock_backend, &o, stages, bounds_of[stages - 1]);
        driver_open(&d, 0, NULL, t, 40, 40);
        driver_generate(&d, 0, t, 40, 7, cut, ANSWER);
        assert_memory_equal(whole, cut, sizeof cut);
        driver_fini(&d);
    }
    o.layer_first = 1;
    driver_init(&d, &mock_backend, &o);
    driver_open(&d, 0, NULL, t, 40, 40);
    driver_row(&d, 0, t, 40, PLAN_LOGITS_LAST);
    uint64_t step = driver_submit(&d);
    float wrong[80] = {1, 2, 3};
    struct error e = {0};
    assert_int_equal(mock_backend.hidden_in(d.engine, step, wrong, 39, &e), ENGINE_FAILED);
    assert_int_equal(mock_backend.hidden_in(d.engine, step, wrong, 40, &e), ENGINE_OK);
    driver_sample(&d, step);
    cut[0] = driver_result(&d, step).rows[0].tokens[0].token;
    for (uint32_t i = 1; i < ANSWER; i++) {
        driver_row(&d, 0, NULL, 1, PLAN_LOGITS_LAST);
        step = driver_submit(&d);
        assert_int_equal(mock_backend.hidden_in(d.engine, step, wrong, 1, &e), ENGINE_OK);
        driver_sample(&d, step);
        cut[i] = driver_result(&d, step).rows[0].tokens[0].token;
    }
    assert_memory_not_equal(whole, cut, sizeof cut);
    driver_fini(&d);
}

static void entries_move_between_shard_layouts(void **state) {
    char *folder = tiny_model_write(tiny_v3, 11, TINY_BF16, UINT32_MAX);
    struct model *model = open_model(folder);
    struct engine_opts o = opts_for(model);
    struct driver whole, cut;
    uint32_t t[PROMPT];
    struct error e = {0};
    engine_ticket ticket;
    uint64_t hash = 0;
    tokens_of(6, t, PROMPT, VOCAB);
    driver_init(&whole, &cpu_backend, &o);
    driver_pipeline(&cut, &cpu_backend, &o, 2, bounds_of[1]);
    assert_int_equal(cut.info.kv_bytes_per_token, whole.info.kv_bytes_per_token);
    size_t bytes = cut.info.kv_bytes_per_token * PROMPT;
    uint8_t *a = xmalloc(bytes), *b = xmalloc(bytes);
    struct driver *drivers[] = {&whole, &cut};
    for (int i = 0; i < 2; i++) {
        struct driver *d = drivers[i];
        driver_open(d, 0, NULL, t, PROMPT, PROMPT);
        driver_row(d, 0, t, PROMPT, PLAN_LOGITS_LAST);
        driver_run(d);
        struct engine_kv_span span = {0, 0, PROMPT};
        assert_int_equal(d->engine->ops->kv_export(d->engine, span, i == 0 ? a : b, &ticket, &e), ERR_NONE);
    }
    assert_memory_equal(a, b, bytes);
    assert_int_equal(cut.engine->ops->ticket_poll(cut.engine, ticket, &hash, &e), ENGINE_OK);
    assert_int_equal(whole.engine->ops->kv_import(whole.engine, (struct engine_kv_span){0, 0, PROMPT}, b, hash, &ticket, &e),
                     ERR_NONE);
    assert_int_equal(cut.engine->ops->kv_import(cut.engine, (struct engine_kv_span){0, 0, PROMPT}, a, hash, &ticket, &e),
                     ERR_NONE);
    free(a);
    free(b);
    driver_fini(&whole);
    driver_fini(&cut);
    model_close(&model);
    tiny_model_remove(folder);
}

// ---- who gets which layers ----

static void the_most_expensive_stage_is_as_cheap_as_can_be(void **state) {
    for (uint32_t seed = 0; seed < 300; seed++) {
        struct layer_costs c = {.layers = 1 + philox4x32((struct philox){{seed, 0, 0, 1}}, 9).v[0] % 9};
        for (uint32_t l = 0; l < c.layers; l++) c.layer[l] = philox4x32((struct philox){{seed, l, 1, 1}}, 9).v[0] % 100;
        c.head = seed % 3 == 0 ? 250 : 0;
        for (uint32_t stages = 1; stages <= c.layers && stages <= 3; stages++) {
            uint32_t bounds[4];
            struct error e = {0};
            assert_int_equal(split_layers(&c, stages, bounds, &e), ERR_NONE);
            assert_true(bounds[0] == 0 && bounds[stages] == c.layers);
            double got = 0, best = 1e300;
            for (uint32_t s = 0; s < stages; s++) {
                double cost = s + 1 == stages ? c.head : 0;
                assert_true(bounds[s] < bounds[s + 1]);
                for (uint32_t l = bounds[s]; l < bounds[s + 1]; l++) cost += c.layer[l];
                if (cost > got) got = cost;
            }
            for (uint32_t a = 1; a <= c.layers; a++) { // all splits, by trying
                for (uint32_t b = a; b <= c.layers; b++) {
                    if (stages < 2 ? a < c.layers : stages < 3 ? b < c.layers || a == c.layers : a == b || b == c.layers)
                        continue;
                    double part[3] = {0}, most = 0;
                    for (uint32_t l = 0; l < c.layers; l++) part[l < a ? 0 : l < b ? 1 : 2] += c.layer[l];
                    part[stages - 1] += c.head;
                    for (int i = 0; i < 3; i++) most = part[i] > most ? part[i] : most;
                    if (most < best) best = most;
                }
            }
            assert_true(got == best);
        }
    }
}

static void what_cannot_be_split_is_refused_with_a_sentence(void **state) {
    struct layer_costs c = {.layers = 3, .layer = {1, 1, 1}};
    struct error e = {0};
    uint32_t bounds[5], n = 0, end = 0;
    assert_int_equal(split_layers(&c, 4, bounds, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "3 layers"));
    assert_int_equal(split_parse("pp=2", &n, &e), ERR_NONE);
    assert_int_equal(n, 2);
    const char *bad[] = {"", "pp", "pp=", "pp=0", "pp=17", "pp=2x", "tp=2", "2", "pp=-1", "pp=2,tp=2"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(split_parse(bad[i], &n, &e), ERR_CONFIG);
    assert_int_equal(split_parse_layers("4-11", &n, &end, &e), ERR_NONE);
    assert_true(n == 4 && end == 12);
    const char *worse[] = {"", "4", "4-", "-4", "5-4", "4-x", "0-256", "4-5-6"};
    for (size_t i = 0; i < ARRAY_LEN(worse); i++) assert_int_equal(split_parse_layers(worse[i], &n, &end, &e), ERR_CONFIG);
}

static void costs_follow_what_a_token_reads(void **state) {
    char *folder = tiny_model_write(tiny_v3, 11, TINY_BF16, UINT32_MAX);
    struct model *model = open_model(folder);
    struct layer_costs c;
    split_costs(model_spec(model), &c);
    assert_int_equal(c.layers, 3);
    assert_true(c.head == 96 * 64 + 64 && c.embed == 64);
    assert_true(c.layer[1] == c.layer[2]);
    // Dense: 3 * 96 * 64 of MLP. Experts: 2 of 8 and the shared one, 3 * 24 * 64 each, and the router with its bias.
    assert_true(c.layer[0] - c.layer[1] == 3 * 96 * 64 - (3 * 3 * 24 * 64 + 8 * 64 + 8));
    model_close(&model);
    tiny_model_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_stages_gives_the_same_bits),
        cmocka_unit_test(stages_hold_disjoint_bytes_that_make_up_the_file),
        cmocka_unit_test(a_stage_reads_no_tensor_of_another),
        cmocka_unit_test(a_stage_runs_ahead_of_its_answers_but_not_of_its_tokens),
        cmocka_unit_test(the_mock_in_stages_says_the_same_and_misses_a_wrong_state),
        cmocka_unit_test(entries_move_between_shard_layouts),
        cmocka_unit_test(the_most_expensive_stage_is_as_cheap_as_can_be),
        cmocka_unit_test(what_cannot_be_split_is_refused_with_a_sentence),
        cmocka_unit_test(costs_follow_what_a_token_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
