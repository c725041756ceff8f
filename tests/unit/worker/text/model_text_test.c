#include "tests/unit/worker/text/tokenizers.h"
#include "worker/text/model_text.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct folder {
    char path[40];
};

static void write_file(const struct folder *f, const char *name, const char *text) {
    char path[80];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static struct folder make_folder(void) {
    struct folder f = {"/tmp/shoal_model_text_XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    struct buf json = {0};
    byte_level_json(&json);
    write_file(&f, "tokenizer.json", json.data);
    buf_free(&json);
    return f;
}

static void remove_folder(const struct folder *f) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                        "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[80];
        snprintf(path, sizeof path, "%s/%s", f->path, names[i]);
        unlink(path);
    }
    rmdir(f->path);
}

static void a_folder_with_a_tokenizer_alone_is_enough(void **state) {
    struct folder f = make_folder();
    struct model_text *m = NULL;
    struct error e = {0};
    assert_int_equal(model_text_load(f.path, &m, &e), ERR_NONE);
    assert_null(m->chat);
    assert_int_equal(m->n_eos, 0);
    assert_false(m->defaults.has_temperature);
    model_text_destroy(m);
    remove_folder(&f);
}

static void all_files_of_a_folder_are_read(void **state) {
    struct folder f = make_folder();
    write_file(&f, "tokenizer_config.json",
               "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"add_bos_token\":true,\"chat_template\":"
               "[{\"name\":\"tool_use\",\"template\":\"t\"},{\"name\":\"default\",\"template\":\"{{ eos_token }}\"}]}");
    write_file(&f, "generation_config.json",
               "{\"eos_token_id\":[302,301],\"temperature\":0.6,\"top_k\":40,\"do_sample\":true}");
    struct model_text *m = NULL;
    struct error e = {0};
    assert_int_equal(model_text_load(f.path, &m, &e), ERR_NONE);
    assert_int_equal(m->n_eos, 2);
    assert_int_equal(m->eos[0], 302);
    assert_int_equal(m->eos[1], 301);
    assert_true(m->defaults.has_temperature && m->defaults.temperature > 0.59f && m->defaults.temperature < 0.61f);
    assert_true(m->defaults.has_top_k && m->defaults.top_k == 40 && !m->defaults.has_top_p);
    json_t *messages = json_array();
    struct template_input input = {.messages = messages, .special_tokens = m->special_tokens};
    struct buf out = {0};
    assert_int_equal(template_render(m->chat, &input, &out, &e), ERR_NONE);
    assert_string_equal(out.data, "</s>");
    buf_free(&out);
    model_text_destroy(m);
    // chat_template.jinja goes before the one inside the configuration.
    write_file(&f, "chat_template.jinja", "own {{ bos_token }}");
    assert_int_equal(model_text_load(f.path, &m, &e), ERR_NONE);
    input.special_tokens = m->special_tokens;
    assert_int_equal(template_render(m->chat, &input, &out, &e), ERR_NONE);
    assert_string_equal(out.data, "own <s>");
    buf_free(&out);
    json_decref(messages);
    model_text_destroy(m);
    remove_folder(&f);
}

static void a_bad_file_is_named(void **state) {
    static const struct {
        const char *name, *text, *word;
    } bad[] = {
        {"tokenizer.json", "{", "tokenizer.json is not valid JSON"},
        {"tokenizer_config.json", "[]", "tokenizer_config.json must hold an object"},
        {"tokenizer_config.json", "{\"chat_template\":\"{{\"}", "tokenizer_config.json: chat_template: line 1"},
        {"chat_template.jinja", "{% if %}", "chat_template.jinja: line 1"},
        {"generation_config.json", "{\"eos_token_id\":\"x\"}", "eos_token_id"},
        {"generation_config.json", "{\"top_p\":2}", "top_p"},
        {"generation_config.json", "{\"temperature\":", "generation_config.json is not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct folder f = make_folder();
        write_file(&f, bad[i].name, bad[i].text);
        struct model_text *m = NULL;
        struct error e = {0};
        assert_int_equal(model_text_load(f.path, &m, &e), ERR_MODEL_FILES);
        if (strstr(e.text, bad[i].word) == NULL || strstr(e.text, f.path) == NULL)
            fail_msg("\"%s\" does not say %s", e.text, bad[i].word);
        remove_folder(&f);
    }
    struct model_text *m = NULL;
    struct error e = {0};
    assert_int_equal(model_text_load("/nowhere/at/all", &m, &e), ERR_MODEL_FILES);
    assert_non_null(strstr(e.text, "tokenizer.json is missing"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_with_a_tokenizer_alone_is_enough),
        cmocka_unit_test(all_files_of_a_folder_are_read),
        cmocka_unit_test(a_bad_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
