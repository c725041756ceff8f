// Tool calls in text, in every style and cut into pieces at every place: what is found must not depend on the cuts.
#include "common/base/limits.h"
#include "worker/text/tool_parser.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

// "content|name(arguments)|content": what came out, in order.
static void show(const struct text_runs *r, struct buf *out) {
    const char *at = r->bytes.data;
    for (size_t i = 0; i < r->n; at += r->runs[i++].len) {
        buf_str(out, i ? "|" : "");
        bool open = false;
        for (size_t k = 0; k < r->runs[i].len; k++) {
            if (r->runs[i].channel == CHANNEL_TOOL && at[k] == TOOL_CALL_START) {
                buf_str(out, open ? ")|" : "");
            } else if (r->runs[i].channel == CHANNEL_TOOL && at[k] == TOOL_CALL_ARGUMENTS) {
                buf_char(out, '(');
                open = true;
            } else {
                buf_char(out, at[k]);
            }
        }
        if (r->runs[i].channel == CHANNEL_TOOL) buf_char(out, ')');
    }
}

static size_t character(const char *s) {
    size_t n = 1;
    while (((unsigned char)s[n] & 0xC0) == 0x80) n++;
    return n;
}

// In pieces [0, a), [a, b), [b, end); step > 0: in pieces of so many characters instead.
static void parse(enum tool_style style, uint32_t limit, const char *text, size_t a, size_t b, size_t step,
                  struct buf *out) {
    struct tool_parser p;
    struct text_runs runs = {0};
    tool_parser_init(&p, style, limit);
    size_t n = strlen(text);
    if (step == 0) {
        tool_parser_push(&p, text, a, &runs);
        tool_parser_push(&p, text + a, b - a, &runs);
        tool_parser_push(&p, text + b, n - b, &runs);
    }
    for (size_t at = 0; step > 0 && at < n;) {
        size_t len = 0;
        for (size_t i = 0; i < step && at + len < n; i++) len += character(text + at + len);
        tool_parser_push(&p, text + at, len, &runs);
        at += len;
    }
    tool_parser_finish(&p, &runs);
    buf_reset(out);
    buf_str(out, "");
    show(&runs, out);
    text_runs_fini(&runs);
    tool_parser_fini(&p);
}

static void is_limited(enum tool_style style, uint32_t limit, const char *text, const char *expected) {
    struct buf out = {0};
    size_t n = strlen(text);
    for (size_t step = 1; step < 8; step++) {
        parse(style, limit, text, 0, 0, step, &out);
        assert_string_equal(out.data, expected);
    }
    for (size_t a = 0; a <= n; a++) {
        if (((unsigned char)text[a] & 0xC0) == 0x80) continue;
        for (size_t b = a; b <= n; b++) {
            if (((unsigned char)text[b] & 0xC0) == 0x80) continue;
            parse(style, limit, text, a, b, 0, &out);
            assert_string_equal(out.data, expected);
        }
    }
    buf_free(&out);
}

static void is(enum tool_style style, const char *text, const char *expected) { is_limited(style, 0, text, expected); }

// ---- hermes

static void hermes_calls_are_found(void **state) {
    const enum tool_style h = TOOL_STYLE_HERMES;
    is(h, "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
       "get({\"city\": \"Paris\"})");
    is(h, "Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "Let me see.|f({})");
    is(h,
       "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": [1, {\"y\": 2}]}}\n</tool_call>\n<tool_call>\n"
       "{\"name\": \"b\", \"arguments\": {}}\n</tool_call>",
       "a({\"x\": [1, {\"y\": 2}]})|b({})");
    is(h, "<tool_call>{\"name\": \"f\", \"parameters\": {\"q\": 1}}</tool_call> \n", "f({\"q\": 1})");
    is(h, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>\nDone.", "f({\"x\": 1})|\nDone.");
}

static void marks_in_strings_are_no_marks(void **state) {
    is(TOOL_STYLE_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"} \\\" </tool_call> {\"}}</tool_call>",
       "f({\"s\": \"} \\\" </tool_call> {\"})");
    is(TOOL_STYLE_LLAMA3, "{\"name\": \"f\", \"parameters\": {\"s\": \"\\\\\"}}", "f({\"s\": \"\\\\\"})");
}

static void another_order_is_read_when_it_is_whole(void **state) {
    const enum tool_style h = TOOL_STYLE_HERMES;
    is(h, "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}</tool_call>", "f({\"x\": 1})");
    is(h, "<tool_call>{\"id\": 7, \"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>", "f({\"x\": 1})");
    is(h, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>", "f({\"x\": 1})");
    is(h, "<tool_call>{\"name\": \"f\"}</tool_call>", "f({})");
    is(h, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}, \"more\": {\"y\": [2]}}</tool_call>", "f({\"x\": 1})");
}

static void what_is_no_call_stays_text(void **state) {
    const enum tool_style h = TOOL_STYLE_HERMES;
    is(h, "a < b, <tool and <tool_calls are text ", "a < b, <tool and <tool_calls are text ");
    is(h, "Use <tool_call>like this</tool_call>.", "Use <tool_call>like this</tool_call>.");
    is(h, "<tool_call>{\"city\": \"Paris\"}</tool_call>", "<tool_call>{\"city\": \"Paris\"}</tool_call>");
    is(h, "<tool_call>{\"name\": 5, \"arguments\": {}}", "<tool_call>{\"name\": 5, \"arguments\": {}}");
    is(h, "<tool_call>{\"name\": \"\", \"arguments\": {}}", "<tool_call>{\"name\": \"\", \"arguments\": {}}");
    is(h, "  \n ", "  \n ");
    is(h, "", "");
    is(TOOL_STYLE_NONE, "<tool_call>{\"name\": \"f\", \"arguments\": {}}",
       "<tool_call>{\"name\": \"f\", \"arguments\": {}}");
}

static void a_call_that_is_cut_off_gives_what_there_is(void **state) {
    is(TOOL_STYLE_HERMES, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"a", "f({\"x\": \"a)");
    is(TOOL_STYLE_HERMES, "text <tool_call>{\"name\": \"f", "text <tool_call>{\"name\": \"f");
    is(TOOL_STYLE_DEEPSEEK_V3, TOOL_CALLS_BEGIN TOOL_CALL_BEGIN "function" TOOL_SEP "f\n```json\n{\"x\":", "f({\"x\":)");
}

static void one_call_can_be_all(void **state) {
    is_limited(TOOL_STYLE_HERMES, 1,
               "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call><tool_call>{\"name\": \"b\", \"arguments\": {}}"
               "</tool_call> more",
               "a({})");
}

// ---- llama3

static void llama_calls_are_found(void **state) {
    const enum tool_style l = TOOL_STYLE_LLAMA3;
    is(l, "{\"name\": \"get\", \"parameters\": {\"city\": \"Paris\"}}", "get({\"city\": \"Paris\"})");
    is(l, " \n{\"name\": \"get\", \"parameters\": {}}\n", "get({})");
    is(l, TOOL_PYTHON_TAG "{\"name\": \"a\", \"parameters\": {}}; {\"name\": \"b\", \"parameters\": {\"x\": 2}}",
       "a({})|b({\"x\": 2})");
    is(l, "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"x\": 1}}", "f({\"x\": 1})");
    is(l, "{\"city\": \"Paris\", \"name\": \"x\"}", "{\"city\": \"Paris\", \"name\": \"x\"}");
    is(l, "The answer is {\"name\": \"f\", \"parameters\": {}}", "The answer is {\"name\": \"f\", \"parameters\": {}}");
    is(l, TOOL_PYTHON_TAG "print(1)", TOOL_PYTHON_TAG "print(1)");
}

// ---- deepseek

static void deepseek_calls_are_found(void **state) {
    is(TOOL_STYLE_DEEPSEEK_V3,
       TOOL_CALLS_BEGIN TOOL_CALL_BEGIN "function" TOOL_SEP
                                        "get\n```json\n{\"city\": \"Paris\"}\n```" TOOL_CALL_END TOOL_CALLS_END,
       "get({\"city\": \"Paris\"})");
    is(TOOL_STYLE_DEEPSEEK_V3,
       "I look.\n" TOOL_CALLS_BEGIN TOOL_CALL_BEGIN "function" TOOL_SEP "a\n```json\n{}\n```" TOOL_CALL_END
       "\n" TOOL_CALL_BEGIN "function" TOOL_SEP "b\n```json\n{\"x\": \"``` \"}\n```" TOOL_CALL_END TOOL_CALLS_END,
       "I look.|a({})|b({\"x\": \"``` \"})");
    is(TOOL_STYLE_DEEPSEEK_V31,
       TOOL_CALLS_BEGIN TOOL_CALL_BEGIN "a" TOOL_SEP "{\"x\": 1}" TOOL_CALL_END TOOL_CALL_BEGIN "b" TOOL_SEP
                                        "{}" TOOL_CALL_END TOOL_CALLS_END,
       "a({\"x\": 1})|b({})");
    is(TOOL_STYLE_DEEPSEEK_V31, TOOL_CALLS_BEGIN TOOL_CALL_BEGIN "function" TOOL_SEP "{}" TOOL_CALL_END TOOL_CALLS_END,
       "function({})");
    is(TOOL_STYLE_DEEPSEEK_V3, TOOL_CALL_BEGIN "function" TOOL_SEP "f\n```json\n\n```" TOOL_CALL_END TOOL_CALLS_END,
       "f({})");
    is(TOOL_STYLE_DEEPSEEK_V3, "x <｜tool y", "x <｜tool y");
}

// ---- all

static void what_the_marks_write_is_read_again(void **state) {
    for (int style = TOOL_STYLE_HERMES; style < TOOL_STYLE_COUNT; style++) {
        const struct tool_marks *m = &tool_marks[style];
        struct buf text = {0};
        buf_printf(&text, "%s%sf%s{\"x\": [1]}%s%s%sg%s{}%s%s", m->begin, m->open, m->middle, m->close, m->gap, m->open,
                   m->middle, m->close, m->end);
        is((enum tool_style)style, text.data, "f({\"x\": [1]})|g({})");
        enum tool_style found = TOOL_STYLE_NONE;
        assert_true(tool_style_by_name(m->name, &found));
        assert_int_equal(found, style);
        buf_free(&text);
    }
}

static void garbage_ends_and_loses_no_bound(void **state) {
    static const char *const words[] = {TOOL_CALL_OPEN,
                                        TOOL_CALL_CLOSE,
                                        TOOL_CALLS_BEGIN,
                                        TOOL_CALL_BEGIN,
                                        TOOL_CALL_END,
                                        TOOL_CALLS_END,
                                        TOOL_SEP,
                                        TOOL_PYTHON_TAG,
                                        "{\"name\": \"f\", ",
                                        "\"arguments\": ",
                                        "{",
                                        "}",
                                        "\"",
                                        "\\",
                                        "function",
                                        "\n```json\n",
                                        "```",
                                        " ",
                                        "\n",
                                        "x",
                                        ";",
                                        ",",
                                        "\x1e",
                                        "[",
                                        "]"};
    uint32_t random = 7;
    for (int round = 0; round < 3000; round++) {
        struct buf text = {0}, whole = {0}, cut = {0};
        buf_str(&text, "");
        for (int i = 0; i < 12; i++) {
            random = random * 1664525 + 1013904223;
            buf_str(&text, words[(random >> 8) % (sizeof words / sizeof *words)]);
        }
        enum tool_style style = (enum tool_style)(round % TOOL_STYLE_COUNT);
        parse(style, 0, text.data, text.len, text.len, 0, &whole);
        for (size_t step = 1; step < 6; step++) {
            parse(style, 0, text.data, 0, 0, step, &cut);
            assert_string_equal(cut.data, whole.data);
        }
        buf_free(&text), buf_free(&whole), buf_free(&cut);
    }
}

static void templates_tell_the_style(void **state) {
    static const char hermes[] = "{{ '<tool_call>' }}", v3[] = "'" TOOL_CALL_BEGIN "' + '```json'", v31[] = TOOL_CALL_BEGIN;
    static const char llama[] = "{{- '\"parameters\": ' }} message.tool_calls", plain[] = "{{ messages }}";
    assert_int_equal(tool_style_of_template(hermes, sizeof hermes - 1), TOOL_STYLE_HERMES);
    assert_int_equal(tool_style_of_template(v3, sizeof v3 - 1), TOOL_STYLE_DEEPSEEK_V3);
    assert_int_equal(tool_style_of_template(v31, sizeof v31 - 1), TOOL_STYLE_DEEPSEEK_V31);
    assert_int_equal(tool_style_of_template(llama, sizeof llama - 1), TOOL_STYLE_LLAMA3);
    assert_int_equal(tool_style_of_template(plain, sizeof plain - 1), TOOL_STYLE_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hermes_calls_are_found),
        cmocka_unit_test(marks_in_strings_are_no_marks),
        cmocka_unit_test(another_order_is_read_when_it_is_whole),
        cmocka_unit_test(what_is_no_call_stays_text),
        cmocka_unit_test(a_call_that_is_cut_off_gives_what_there_is),
        cmocka_unit_test(one_call_can_be_all),
        cmocka_unit_test(llama_calls_are_found),
        cmocka_unit_test(deepseek_calls_are_found),
        cmocka_unit_test(what_the_marks_write_is_read_again),
        cmocka_unit_test(garbage_ends_and_loses_no_bound),
        cmocka_unit_test(templates_tell_the_style),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
