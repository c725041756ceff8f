// Model folders: what is good opens, what is not gets one sentence, and no bytes crash the reader.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "tests/unit/worker/engine/tiny_model.h"
#include "worker/model/model.h"

static char *read_file(const char *folder, const char *name, size_t *size) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *bytes = xmalloc(1 << 20);
    *size = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

// A file of this header and data_size bytes of zeros.
static void write_safetensors(const char *folder, const char *header, size_t data_size) {
    size_t n = strlen(header);
    char *bytes = xcalloc(1, 8 + n + data_size);
    uint64_t length = n;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, n);
    write_file(folder, "model.safetensors", bytes, 8 + n + data_size);
    free(bytes);
}

static void a_good_folder_opens_and_its_fingerprint_follows_the_weights(void **state) {
    char first[33];
    for (uint64_t seed = 1; seed <= 2; seed++) {
        char *folder = tiny_model_write(tiny_v3, seed, TINY_BF16, UINT32_MAX);
        struct model *m, *again;
        struct error e = {0};
        assert_int_equal(model_open(folder, &m, &e), ERR_NONE);
        assert_int_equal(model_open(folder, &again, &e), ERR_NONE);
        assert_string_equal(model_fingerprint(m), model_fingerprint(again));
        assert_null(model_note(m));
        if (seed == 2) assert_string_not_equal(model_fingerprint(m), first);
        strcpy(first, model_fingerprint(m));
        const struct model_spec *s = model_spec(m);
        assert_int_equal(s->layer[0].mlp.kind, MLP_DENSE);
        assert_int_equal(s->layer[1].mlp.kind, MLP_MOE);
        assert_int_equal(s->layer[1].attention.kind, ATTENTION_MLA);
        assert_int_equal(s->eos[0], 1);
        model_close(&m);
        model_close(&again);
        tiny_model_remove(folder);
    }
}

static void generation_config_adds_eos_ids_and_defaults(void **state) {
    char *folder = tiny_model_write(tiny_llama, 1, TINY_BF16, UINT32_MAX);
    const char good[] = "{\"eos_token_id\":[1,5,7],\"temperature\":0.6,\"top_p\":0.95,\"do_sample\":true}";
    const char bad[] = "{\"eos_token_id\":\"x\"}";
    struct model *m;
    struct error e = {0};
    write_file(folder, "generation_config.json", good, strlen(good));
    assert_int_equal(model_open(folder, &m, &e), ERR_NONE);
    assert_int_equal(model_spec(m)->n_eos, 3);
    assert_true(model_generation(m)->do_sample && model_generation(m)->temperature == 0.6f);
    model_close(&m);
    write_file(folder, "generation_config.json", bad, strlen(bad));
    assert_int_equal(model_open(folder, &m, &e), ERR_MODEL_FILES);
    assert_non_null(strstr(e.text, "generation_config.json"));
    tiny_model_remove(folder);
}

static void every_missing_and_misshapen_tensor_is_told_at_once(void **state) {
    char *folder = tiny_model_write(tiny_v3, 1, TINY_BF16, UINT32_MAX);
    size_t size;
    char *bytes = read_file(folder, "model.safetensors", &size), *at;
    struct model *m;
    struct error e = {0};
    at = memmem(bytes, size, "model.norm.weight", 17); // renamed: one missing, one that nobody asked for
    assert_non_null(at);
    memcpy(at, "model.nxrm.weight", 17);
    at = memmem(bytes, size, "\"shape\":[96,64]", 15); // the embedding, transposed
    assert_non_null(at);
    memcpy(at, "\"shape\":[64,96]", 15);
    write_file(folder, "model.safetensors", bytes, size);
    assert_int_equal(model_open(folder, &m, &e), ERR_MODEL_FILES);
    assert_non_null(strstr(e.text, "model.norm.weight"));
    assert_non_null(strstr(e.text, "[64,96] not [96,64]"));
    free(bytes);
    tiny_model_remove(folder);
}

static void tensors_that_nobody_needs_are_named_once(void **state) {
    char *folder = tiny_model_write(tiny_v3, 1, TINY_BF16, UINT32_MAX);
    char config[2048];
    struct model *m;
    struct error e = {0};
    snprintf(config, sizeof config, "%s", tiny_v3); // two layers: the third is a multi-token-prediction layer then
    memcpy(strstr(config, "\"num_hidden_layers\":3"), "\"num_hidden_layers\":2", 21);
    write_file(folder, "config.json", config, strlen(config));
    assert_int_equal(model_open(folder, &m, &e), ERR_NONE);
    assert_null(model_note(m));
    model_close(&m);
    snprintf(config, sizeof config, "%s",
             tiny_v3); // no shared expert: its tensors are left over
    memcpy(strstr(config, "\"n_shared_experts\":1"), "\"n_shared_experts\":0", 20);
    write_file(folder, "config.json", config, strlen(config));
    assert_int_equal(model_open(folder, &m, &e), ERR_NONE);
    assert_non_null(strstr(model_note(m), "6 tensors"));
    assert_non_null(strstr(model_note(m), "shared_experts"));
    model_close(&m);
    tiny_model_remove(folder);
}

static void malformed_headers_get_one_sentence_each(void **state) {
    const struct {
        const char *header;
        size_t data;
        const char *sentence;
    } cases[] = {
        {"[]", 0, "not valid JSON"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},\"a\":1}", 4, "not valid JSON"},
        {"{\"a\":{\"dtype\":\"Q4\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"BF16\",\"data_offsets\":[0,4]}}", 4, "no shape"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[-2],\"data_offsets\":[0,4]}}", 4, "malformed shape"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[4611686018427387904,8],\"data_offsets\":[0,4]}}", 4, "too large"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, "don't fit"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,0]}}", 4, "cut off"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 3, "cut off"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 6, "after its last"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_"
         "offsets\":[2,6]}}",
         6, "overlaps"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_"
         "offsets\":[4,6]}}",
         6, "hole"},
        {"{\"a\":3}", 0, "malformed"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2]}}", 4, "data_offsets"},
    };
    char *folder = tiny_model_write(tiny_llama, 1, TINY_BF16, UINT32_MAX);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tensor_set *set;
        struct error e = {0};
        write_safetensors(folder, cases[i].header, cases[i].data);
        assert_int_equal(tensor_set_open(folder, &set, &e), ERR_MODEL_FILES);
        if (strstr(e.text, cases[i].sentence) == NULL) fail_msg("case %zu: %s", i, e.text);
    }
    tiny_model_remove(folder);
}

static void no_garbage_crashes_the_reader(void **state) {
    enum { ROUNDS = 400 };
    char *folder = tiny_model_write(tiny_qwen2, 1, TINY_BF16, UINT32_MAX);
    size_t size, config_size;
    char *good = read_file(folder, "model.safetensors", &size), *config = read_file(folder, "config.json", &config_size);
    uint64_t header;
    memcpy(&header, good, 8);
    char *bytes = xmalloc(size > config_size ? size : config_size);
    uint32_t refused = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct philox r = philox4x32((struct philox){{round, 0, 0, 0}}, 8);
        struct model *m = NULL;
        struct error e = {0};
        bool tensors = round % 2 == 0;
        memcpy(bytes, tensors ? good : config, tensors ? size : config_size);
        for (uint32_t k = 0; k < 3; k++) bytes[r.v[k] % (tensors ? header + 8 : config_size)] = (char)(r.v[3] >> 8 * k);
        write_file(folder, "model.safetensors", tensors ? bytes : good, size);
        write_file(folder, "config.json", tensors ? config : bytes, config_size);
        err_id id = model_open(folder, &m, &e);
        refused += id != ERR_NONE;
        assert_true((id == ERR_NONE) == (e.text[0] == '\0'));
        model_close(&m);
    }
    assert_in_range(refused, ROUNDS / 3, ROUNDS);
    free(bytes);
    free(good);
    free(config);
    tiny_model_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_folder_opens_and_its_fingerprint_follows_the_weights),
        cmocka_unit_test(generation_config_adds_eos_ids_and_defaults),
        cmocka_unit_test(every_missing_and_misshapen_tensor_is_told_at_once),
        cmocka_unit_test(tensors_that_nobody_needs_are_named_once),
        cmocka_unit_test(malformed_headers_get_one_sentence_each),
        cmocka_unit_test(no_garbage_crashes_the_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
