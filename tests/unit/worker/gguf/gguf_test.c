// GGUF files: what is in one, and that each fault of a file is told in a sentence that names it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "tests/unit/worker/gguf/writer.h"
#include "worker/gguf/documents.h"
#include "worker/gguf/types.h"
#include "worker/model/model.h"

// Opens the bytes as a file; the error is left in *e.
static err_id open_bytes(const struct buf *file, struct gguf **g, struct error *e) {
    char path[] = "/tmp/shoal-gguf-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, file->data, file->len), (ssize_t)file->len);
    close(fd);
    err_id id = gguf_open(path, g, e);
    unlink(path);
    return id;
}

static void refused(struct gguf_writer *w, const char *sentence) {
    struct buf file = {0};
    struct gguf *g = NULL;
    struct error e = {0};
    writer_finish(w, &file);
    assert_int_not_equal(open_bytes(&file, &g, &e), ERR_NONE);
    if (strstr(e.text, sentence) == NULL) fail_msg("\"%s\" should say \"%s\"", e.text, sentence);
    buf_free(&file);
}

static void values_and_tensors_are_found_by_name(void **state) {
    struct gguf_writer w;
    struct buf file = {0};
    struct gguf *g;
    struct error e = {0};
    writer_init(&w, 1);
    writer_u32(&w, "b", 7);
    writer_f32(&w, "a", 0.5f);
    writer_string(&w, "c", "text");
    writer_tensor(&w, "second", 8, 64, 3);
    writer_tensor(&w, "first", 0, 5, 0);
    writer_finish(&w, &file);
    assert_int_equal(open_bytes(&file, &g, &e), ERR_NONE);
    uint64_t u = 0, n;
    double d = 0;
    bool b = true;
    struct gguf_text t = {0};
    assert_int_equal(gguf_u64(g, "b", &u, &e), ERR_NONE);
    assert_int_equal(gguf_number(g, "a", &d, &e), ERR_NONE);
    assert_int_equal(gguf_string(g, "c", &t, &e), ERR_NONE);
    assert_true(u == 7 && d == 0.5 && t.len == 4 && memcmp(t.data, "text", 4) == 0);
    assert_int_equal(gguf_bool(g, "absent", &b, &e), ERR_NONE);
    assert_int_equal(gguf_bool(g, "b", &b, &e), ERR_MODEL_FILES);
    assert_int_equal(gguf_u64(g, "c", &u, &e), ERR_MODEL_FILES);
    const struct gguf_tensor *second = gguf_tensor(g, "second"), *first = gguf_tensor(g, "first");
    assert_true(second != NULL && first != NULL && gguf_tensor(g, "third") == NULL);
    assert_true(second->bytes == 2 * 34 * 3 && first->bytes == 20 && gguf_tensors(g, &n) == second && n == 2);
    gguf_close(&g);
    buf_free(&file);
}

static void faults_of_the_header_are_named(void **state) {
    struct gguf_writer w;
    writer_init(&w, 1);
    w.version = 1;
    writer_tensor(&w, "t", 0, 4, 0);
    refused(&w, "GGUF version 1 is not supported");
    writer_init(&w, 1);
    w.version = 3 << 24;
    writer_tensor(&w, "t", 0, 4, 0);
    refused(&w, "big-endian");
    writer_init(&w, 1);
    refused(&w, "holds no tensors");
    writer_init(&w, 1);
    w.n_tensors = UINT64_MAX / 2;
    refused(&w, "are announced, at most");
    writer_init(&w, 1);
    w.n_values = 60000;
    refused(&w, "cut off");
    writer_init(&w, 1);
    writer_u32(&w, "general.alignment", 48);
    writer_tensor(&w, "t", 0, 4, 0);
    refused(&w, "general.alignment must be a power of two");
    writer_init(&w, 1);
    writer_u32(&w, "x", 1);
    writer_u32(&w, "x", 1);
    writer_tensor(&w, "t", 0, 4, 0);
    refused(&w, "\"x\" is there twice");
}

static void faults_of_tensors_are_named(void **state) {
    struct gguf_writer w;
    static const struct {
        uint32_t number;
        const char *sentence;
    } types[] = {{10, "is of type Q2_K, which is not supported"}, {23, "IQ4_XS"}, {77, "77 (unknown)"}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        writer_init(&w, 1);
        writer_tensor(&w, "t", types[i].number, 256, 2);
        refused(&w, types[i].sentence);
    }
    writer_init(&w, 1);
    writer_tensor(&w, "t", 12, 288, 2); // not a multiple of 256
    refused(&w, "rows that are not whole blocks");
    writer_init(&w, 1);
    writer_tensor(&w, "t", 0, 4, 0);
    writer_tensor(&w, "t", 0, 4, 0);
    refused(&w, "is there twice");
    writer_init(&w, 1);
    writer_tensor(&w, "t", 0, 1024, 4);
    w.data.len -= 4;
    refused(&w, "reaches beyond the end of the file");
    writer_init(&w, 1);
    writer_tensor(&w, "t", 0, 16, 4);
    writer_tensor(&w, "u", 0, 16, 4);
    memset(w.tensors.data + w.tensors.len - 8, 0, 8); // u's offset
    refused(&w, "overlaps another");
    writer_init(&w, 1);
    writer_tensor(&w, "t", 0, 16, 4);
    w.tensors.data[w.tensors.len - 8] = 4;
    refused(&w, "multiple of the file's alignment");
    writer_init(&w, 1);
    writer_tensor(&w, "t", 0, 16, 4);
    memset(w.tensors.data + 8 + 1 + 4, 0xff, 16); // both dimensions
    refused(&w, "too large");
}

// Whatever the file is cut to: a sentence, or (inside the padding at its end) nothing wrong.
static void every_cut_is_noticed(void **state) {
    struct gguf_writer w;
    struct buf file = {0};
    writer_init(&w, 1);
    writer_u32(&w, "a", 7);
    writer_string(&w, "c", "text");
    writer_tensor(&w, "t", 2, 32, 2);
    writer_finish(&w, &file);
    size_t whole = file.len;
    for (file.len = 1; file.len < whole; file.len++) {
        struct gguf *g = NULL;
        struct error e = {0};
        assert_int_not_equal(open_bytes(&file, &g, &e), ERR_NONE);
        assert_true(e.text[0] != '\0');
    }
    buf_free(&file);
}

static void a_model_is_opened_whatever_the_type_of_its_weights(void **state) {
    for (int type = 0; type < GGUF_TYPES; type++) {
        char *path = writer_tiny_file((enum gguf_type)type, 5);
        struct model *m;
        struct error e = {0};
        if (model_open(path, &m, &e) != ERR_NONE) fail_msg("%s: %s", gguf_type_name((enum gguf_type)type), error_text(&e));
        const struct model_spec *s = model_spec(m);
        assert_true(s->vocab == TINY_VOCAB && s->tied && s->rope.interleaved && s->n_eos == 1 && s->eos[0] == 1);
        assert_null(model_note(m));
        model_close(&m);
        unlink(path);
        free(path);
    }
}

static void document(const char *path, const char *name, struct buf *out) {
    bool found;
    struct error e = {0};
    buf_reset(out);
    if (gguf_document(path, name, out, &found, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
    assert_true(found);
}

static void documents_say_what_the_metadata_says(void **state) {
    char *path = writer_tiny_file(GGUF_TYPE_F16, 5);
    struct buf text = {0};
    struct error e = {0};
    bool found = true;
    document(path, "config.json", &text);
    assert_non_null(strstr(text.data, "\"num_key_value_heads\":2"));
    document(path, "generation_config.json", &text);
    assert_string_equal(text.data, "{\"eos_token_id\":[1]}");
    document(path, "tokenizer_config.json", &text);
    assert_non_null(strstr(text.data, "\"chat_template\":\"{% for m"));
    document(path, "tokenizer.json", &text);
    assert_non_null(strstr(text.data, "\"individual_digits\":true"));
    assert_int_equal(gguf_document(path, "chat_template.jinja", &text, &found, &e), ERR_NONE);
    assert_false(found);
    buf_free(&text);
    unlink(path);
    free(path);
}

static void what_the_metadata_must_not_say_is_refused(void **state) {
    static const struct {
        const char *key, *value, *sentence;
    } cases[] = {
        {"general.architecture", "gptneox", "\"gptneox\" is not supported"},
        {"tokenizer.ggml.pre", "chatglm-bpe", "\"chatglm-bpe\" (tokenizer.ggml.pre)"},
        {"tokenizer.ggml.model", "t5", "\"t5\" (tokenizer.ggml.model)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_writer w;
        struct buf file = {0};
        struct gguf *g;
        struct error e = {0};
        json_t *json = NULL;
        const char *token = "a";
        writer_init(&w, 1);
        writer_string(&w, cases[i].key, cases[i].value);
        if (strcmp(cases[i].key, "tokenizer.ggml.pre") == 0) writer_string(&w, "tokenizer.ggml.model", "gpt2");
        writer_strings(&w, "tokenizer.ggml.tokens", &token, 1);
        writer_tensor(&w, "t", 0, 4, 0);
        writer_finish(&w, &file);
        assert_int_equal(open_bytes(&file, &g, &e), ERR_NONE);
        assert_int_equal((i == 0 ? gguf_config : gguf_tokenizer)(g, &json, &e), ERR_UNSUPPORTED);
        if (strstr(e.text, cases[i].sentence) == NULL) fail_msg("%s", e.text);
        gguf_close(&g);
        buf_free(&file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_tensors_are_found_by_name),
        cmocka_unit_test(faults_of_the_header_are_named),
        cmocka_unit_test(faults_of_tensors_are_named),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(a_model_is_opened_whatever_the_type_of_its_weights),
        cmocka_unit_test(documents_say_what_the_metadata_says),
        cmocka_unit_test(what_the_metadata_must_not_say_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
