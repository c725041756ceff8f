// OpenAI bodies in and out: translation, refusals, rendering.
#include "common/base/check.h"
#include "router/front/openai_render.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static err_id parse(const char *json, enum openai_kind kind, struct openai_request **r, struct error *e) {
    return openai_request_parse(kind, json, strlen(json), r, e);
}

static void a_chat_request_becomes_a_prompt_with_its_parameters(void **state) {
    struct openai_request *r;
    struct error e = {0};
    const char *json =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi \\u00e9\"}],\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true,\"continuous_usage_stats\":false},\"max_tokens\":5,"
        "\"max_completion_tokens\":7,\"seed\":-3,\"temperature\":0,\"top_k\":-1,\"stop\":\"END\",\"user\":null,"
        "\"logit_bias\":{\"12\":-100},\"frob\":1,\"nothing\":null}";
    assert_int_equal(parse(json, OPENAI_CHAT, &r, &e), ERR_NONE);
    struct openai_view v = openai_request_view(r);
    assert_string_equal(v.model, "m");
    assert_true(v.stream && v.include_usage && v.has_seed && v.seed == (uint64_t)-3 && v.max_tokens == 7);
    assert_int_equal(v.prompt_bytes, 5);
    assert_string_equal(v.ignored, "frob");
    assert_true(v.prompt->sampling.has_temperature && v.prompt->sampling.temperature == 0);
    assert_true(v.prompt->sampling.has_top_k && v.prompt->sampling.top_k == 0);
    assert_int_equal(v.prompt->n_stop, 1);
    assert_string_equal(v.prompt->stop[0], "END");
    assert_int_equal(v.prompt->n_logit_bias, 1);
    assert_int_equal(v.prompt->logit_bias[0].token, 12);
    openai_request_destroy(r);
}

static void a_wrong_field_is_named_with_what_was_expected(void **state) {
    static const struct {
        const char *field, *param;
    } cases[] = {
        {"\"temperature\":3", "temperature"},
        {"\"temperature\":\"1\"", "temperature"},
        {"\"top_p\":1e400", "body"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_tokens\":1.5", "max_tokens"},
        {"\"n\":33", "n"},
        {"\"stop\":[1]", "stop"},
        {"\"stop\":{}", "stop"},
        {"\"logprobs\":3", "logprobs"},
        {"\"top_logprobs\":3", "top_logprobs"},
        {"\"stream\":1", "stream"},
        {"\"stream_options\":[]", "stream_options"},
        {"\"tools\":{}", "tools"},
        {"\"tool_choice\":\"required\"", "tool_choice"},
        {"\"tool_choice\":\"maybe\"", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "tool_choice"},
        {"\"tools\":[{\"type\":\"function\"}]", "tools[0].function.name"},
        {"\"response_format\":{\"type\":\"xml\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_schema\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_object\"},\"guided_regex\":\"a\"", "response_format"},
        {"\"thinking\":{\"type\":\"much\"}", "thinking"},
        {"\"parallel_tool_calls\":1", "parallel_tool_calls"},
        {"\"continue_final_message\":true,\"add_generation_prompt\":true", "continue_final_message"},
        {"\"bad_words\":[\"\"]", "bad_words"},
        {"\"priority\":1000000", "priority"},
        {"\"stop_token_ids\":[-1]", "stop_token_ids"},
        {"\"logit_bias\":{\"a\":1}", "logit_bias"},
        {"\"allowed_token_ids\":[]", "allowed_token_ids"},
        {"\"banned_token_ids\":[1,-1]", "banned_token_ids"},
        {"\"typical_p\":2", "typical_p"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct openai_request *r;
        struct error e = {0};
        char json[512];
        snprintf(json, sizeof json, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],%s}",
                 cases[i].field);
        assert_int_not_equal(parse(json, OPENAI_CHAT, &r, &e), ERR_NONE);
        assert_null(r);
        if (strcmp(cases[i].param, "body") != 0) assert_string_equal(e.param, cases[i].param);
        assert_true(e.text[0]);
    }
}

static void bodies_that_were_cut_or_changed_anywhere_never_crash(void **state) {
    const char *good = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}]"
                       ",\"stop\":[\"a\"],"
                       "\"logit_bias\":{\"1\":2},\"tools\":[{}],\"chat_template_kwargs\":{\"a\":1},\"seed\":1,\"top_"
                       "logprobs\":2,\"logprobs\":true}";
    size_t len = strlen(good);
    char *copy = malloc(len);
    struct openai_request *r;
    struct error e;
    uint64_t random = 1;
    for (size_t n = 0; n < len; n++) {
        memcpy(copy, good, n);
        assert_int_not_equal(openai_request_parse(OPENAI_CHAT, copy, n, &r, &e), ERR_NONE);
    }
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, good, len);
        for (int k = 0; k < 3; k++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            copy[(random >> 33) % len] = (char)(random >> 25);
        }
        openai_request_parse(i % 2 ? OPENAI_CHAT : OPENAI_COMPLETION, copy, len, &r, &e);
        openai_request_destroy(r);
    }
    free(copy);
}

// The payloads of the data: events in a stream, parsed.
static json_t *events(const struct buf *b, bool *done) {
    json_t *list = json_array();
    *done = false;
    for (char *at = b->data; (at = strstr(at, "data: ")) != NULL;) {
        char *end = strstr(at, "\n\n");
        assert_non_null(end);
        at += 6;
        if (strncmp(at, "[DONE]", 6) == 0)
            *done = true;
        else
            json_array_append_new(list, json_loadb(at, (size_t)(end - at), 0, NULL));
        at = end;
    }
    return list;
}

static void append(struct record_log *log, uint8_t channel, const char *text) {
    struct record r = {.token = 1,
                       .channel = channel,
                       .text = text,
                       .text_len = (uint32_t)strlen(text),
                       .has_logprob = true,
                       .logprob = -0.5f};
    record_log_append(log, &r);
}

static const char *text_of(json_t *chunk, const char *name) {
    json_t *delta = json_object_get(json_array_get(json_object_get(chunk, "choices"), 0), "delta");
    return json_string_value(json_object_get(delta, name));
}

static void a_stream_is_rendered_by_channel_and_ends_with_finish_usage_and_done(void **state) {
    struct openai_answer a = {.kind = OPENAI_CHAT,
                              .id = "chatcmpl-1",
                              .model = "m\"x",
                              .include_usage = true,
                              .replica = "w1",
                              .attempt = 2,
                              .event.n = 1};
    struct record_log *log = record_log_create();
    struct buf out = {0};
    bool done;
    append(log, CHANNEL_REASONING, "think");
    append(log, CHANNEL_REASONING, "ing");
    append(log, CHANNEL_CONTENT, "a\"\n\xc3\xa9\x01");
    append(log, CHANNEL_CONTENT, "");
    struct msg_done end = {.n_tokens = 4, .finish = FINISH_LENGTH, .usage = {3, 4, 0, 2}, .tail = "tail", .tail_len = 4};
    openai_render_start(&out, &a);
    openai_render_records(&out, &a, 0, log, 4);
    openai_render_finish(&out, &a, 0, &end);
    openai_render_end(&out, &a, &end.usage);
    json_t *list = events(&out, &done);
    assert_true(done);
    assert_int_equal(json_array_size(list), 6);
    assert_string_equal(text_of(json_array_get(list, 0), "role"), "assistant");
    assert_string_equal(text_of(json_array_get(list, 1), "reasoning_content"), "thinking");
    assert_string_equal(text_of(json_array_get(list, 2), "content"), "a\"\n\xc3\xa9\x01");
    assert_string_equal(text_of(json_array_get(list, 3), "content"), "tail");
    json_t *last = json_array_get(list, 4), *usage = json_array_get(list, 5);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(last, "choices"), 0), "finish_reason")), "length");
    assert_string_equal(json_string_value(json_object_get(json_object_get(last, "shoal"), "replica")), "w1");
    assert_true(json_is_null(json_object_get(last, "usage")));
    assert_int_equal(json_array_size(json_object_get(usage, "choices")), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(usage, "usage"), "total_tokens")), 7);
    json_decref(list);
    buf_free(&out);
    record_log_destroy(log);
}

static void append_calls(struct record_log *log) {
    append(log, CHANNEL_CONTENT, "Hm.");
    append(log, CHANNEL_TOOL,
           "\x1e"
           "get\x1f{\"a\"");
    append(log, CHANNEL_TOOL,
           ":1}\x1e"
           "se");
    append(log, CHANNEL_TOOL, "t\x1f");
    append(log, CHANNEL_TOOL, "{}");
}

// Puts the deltas of a stream that is taken up behind `from` records together.
static void collect(const struct record_log *log, uint32_t from, uint32_t step, char names[2][64], char arguments[2][64]) {
    struct tool_cursor cursor = {0};
    struct openai_answer a = {.kind = OPENAI_CHAT, .id = "chatcmpl-1", .model = "m", .event.n = 1, .tools = &cursor};
    struct buf out = {0};
    bool done;
    a.event.at[0].offset = from;
    for (uint32_t to = from; to < record_log_count(log);) {
        to = to + step < record_log_count(log) ? to + step : record_log_count(log);
        openai_render_records(&out, &a, 0, log, to);
    }
    buf_str(&out, "data: [DONE]\n\n");
    json_t *list = events(&out, &done), *chunk, *call;
    size_t i, k;
    json_array_foreach(list, i, chunk) {
        json_t *delta = json_object_get(json_array_get(json_object_get(chunk, "choices"), 0), "delta");
        json_array_foreach(json_object_get(delta, "tool_calls"), k, call) {
            json_t *function = json_object_get(call, "function");
            int index = (int)json_integer_value(json_object_get(call, "index"));
            assert_string_equal(json_string_value(json_object_get(call, "type")), "function");
            if (json_object_get(function, "name")) {
                assert_string_equal(names[index], "");
                assert_non_null(json_object_get(call, "id"));
                strcpy(names[index], json_string_value(json_object_get(function, "name")));
            }
            strcat(arguments[index], json_string_value(json_object_get(function, "arguments")));
        }
    }
    json_decref(list);
    buf_free(&out);
}

static void calls_are_rendered_as_deltas_from_any_record_on(void **state) {
    struct record_log *log = record_log_create();
    append_calls(log);
    for (uint32_t step = 1; step <= 5; step++) {
        char names[2][64] = {"", ""}, arguments[2][64] = {"", ""};
        collect(log, 0, step, names, arguments);
        assert_string_equal(names[0], "get");
        assert_string_equal(names[1], "set");
        assert_string_equal(arguments[0], "{\"a\":1}");
        assert_string_equal(arguments[1], "{}");
    }
    char names[2][64] = {"", ""}, arguments[2][64] = {"", ""};
    collect(log, 2, 1, names, arguments); // behind get's beginning
    assert_string_equal(names[0], "");
    assert_string_equal(arguments[0], ":1}");
    assert_string_equal(names[1], "set");
    record_log_destroy(log);
}

static void a_whole_answer_with_calls_only_has_no_content(void **state) {
    struct openai_answer a = {.kind = OPENAI_CHAT, .id = "chatcmpl-1", .model = "m", .event.n = 1};
    struct record_log *log = record_log_create();
    struct buf out = {0};
    append(log, CHANNEL_TOOL,
           "\x1e"
           "f\x1f{}");
    struct msg_done end = {.n_tokens = 1, .finish = FINISH_TOOL_CALLS, .tail = ""};
    openai_render_answer(&out, &a, &(struct openai_choice){log, &end}, 1);
    json_t *body = json_loads(out.data, 0, NULL);
    json_t *choice = json_array_get(json_object_get(body, "choices"), 0), *message = json_object_get(choice, "message");
    assert_true(json_is_null(json_object_get(message, "content")));
    assert_int_equal(json_array_size(json_object_get(message, "tool_calls")), 1);
    assert_string_equal(json_string_value(json_object_get(choice, "finish_reason")), "tool_calls");
    json_decref(body);
    buf_free(&out);
    record_log_destroy(log);
}

static void bytes_that_are_not_utf8_become_replacement_characters(void **state) {
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\xc3", "\"a\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
        {"\xc0\x80z", "\"\xef\xbf\xbd\xef\xbf\xbdz\""},
        {"\\\t", "\"\\\\\\t\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        json_append_string(&out, cases[i].in, strlen(cases[i].in));
        assert_string_equal(out.data, cases[i].out);
        buf_free(&out);
    }
}

static void a_whole_answer_and_an_error_are_valid_json(void **state) {
    struct openai_answer a = {
        .kind = OPENAI_COMPLETION, .id = "cmpl-1", .model = "m", .logprobs = true, .fingerprint = "00ff"};
    struct record_log *log = record_log_create();
    struct buf out = {0};
    append(log, CHANNEL_CONTENT, "one");
    append(log, CHANNEL_CONTENT, " two");
    struct msg_done end = {.n_tokens = 2, .usage = {1, 2, 0, 0}, .tail = "", .tail_len = 0};
    openai_render_answer(&out, &a, &(struct openai_choice){log, &end}, 1);
    json_t *body = json_loads(out.data, 0, NULL);
    json_t *choice = json_array_get(json_object_get(body, "choices"), 0);
    assert_string_equal(json_string_value(json_object_get(choice, "text")), "one two");
    assert_int_equal(json_array_size(json_object_get(json_object_get(choice, "logprobs"), "tokens")), 2);
    json_decref(body);
    buf_reset(&out);
    struct error e;
    error_set_param(&e, ERR_MODEL_NOT_FOUND, "model", "no \"such\" model");
    openai_render_error(&out, &e);
    body = json_loads(out.data, 0, NULL);
    json_t *error = json_object_get(body, "error");
    assert_string_equal(json_string_value(json_object_get(error, "message")), "no \"such\" model");
    assert_string_equal(json_string_value(json_object_get(error, "code")), "model_not_found");
    assert_string_equal(json_string_value(json_object_get(error, "param")), "model");
    json_decref(body);
    buf_free(&out);
    record_log_destroy(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_request_becomes_a_prompt_with_its_parameters),
        cmocka_unit_test(a_wrong_field_is_named_with_what_was_expected),
        cmocka_unit_test(bodies_that_were_cut_or_changed_anywhere_never_crash),
        cmocka_unit_test(a_stream_is_rendered_by_channel_and_ends_with_finish_usage_and_done),
        cmocka_unit_test(calls_are_rendered_as_deltas_from_any_record_on),
        cmocka_unit_test(a_whole_answer_with_calls_only_has_no_content),
        cmocka_unit_test(bytes_that_are_not_utf8_become_replacement_characters),
        cmocka_unit_test(a_whole_answer_and_an_error_are_valid_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
