// Templates and messages. That templates give what jinja2 gives is checked in tests/e2e against jinja2 itself.
#include "tests/unit/worker/text/tokenizers.h"
#include "worker/text/messages.h"
#include "worker/text/template.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

// The text, or "error: …"; the caller frees.
static char *run(const char *source, const char *messages) {
    struct chat_template *t = NULL;
    struct error e = {0};
    struct buf out = {0};
    if (template_create(source, strlen(source), &t, &e) != ERR_NONE) {
        buf_printf(&out, "error: %s", error_text(&e));
        return buf_take(&out);
    }
    json_t *json = parse(messages), *special = parse("{\"bos_token\":\"<s>\"}");
    struct template_input input = {
        .messages = json, .special_tokens = special, .add_generation_prompt = true, .now_unix_s = 86400};
    if (template_render(t, &input, &out, &e) != ERR_NONE) {
        assert_int_equal(out.len, 0);
        buf_printf(&out, "error: %s", error_text(&e));
    }
    json_decref(json);
    json_decref(special);
    template_destroy(t);
    return buf_take(&out);
}

static void expect(const char *source, const char *wanted) {
    char *got = run(source, "[{\"role\":\"user\",\"content\":\"hi\"}]");
    assert_string_equal(got, wanted);
    free(got);
}

static void a_template_runs_over_messages(void **state) {
    expect("{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt "
           "%}<a>{% endif %}",
           "<s><user>hi<a>");
    expect("{{ strftime_now('%d %b %Y') }} {{ tools is none }} {{ documents }}", "02 Jan 1970 True None");
}

static void refusals_name_line_and_thing(void **state) {
    expect("a\n{{ x | odd }}", "error: line 2: the filter \"odd\" is not supported");
    expect("{{ raise_exception('no ' ~ messages[0].role) }}",
           "error: the model's chat template refuses the messages: no user");
    expect("\n\n{{ messages[0].x.y }}", "error: chat template, line 3: 'dict object' has no attribute 'x'");
    expect("{{ nothing.x }}", "error: chat template, line 1: 'nothing' is undefined");
    expect("{{ 'a' + 1 }}", "error: chat template, line 1: can only concatenate str (not \"int\") to str");
}

static void nothing_runs_forever_or_eats_all_memory(void **state) {
    static const char *const endless[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(s='aaaa') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[0]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l ~ 1 }}",
        "{% set x %}{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}{% endset %}",
        "{{ 'a'.replace('', 'b' * 1000000).replace('', 'c' * 1000000) }}",
    };
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        char *got = run(endless[i], "[]");
        if (strncmp(got, "error: chat template, line 1:", 29) != 0) fail_msg("%s gave %.60s", endless[i], got);
        free(got);
    }
}

// Deep nesting of the source itself: refused, whatever kind it is.
static void deep_sources_are_refused(void **state) {
    static const struct {
        const char *open, *middle, *close;
    } shapes[] = {{"(", "1", ")"},
                  {"[", "", "]"},
                  {"not ", "1", ""},
                  {"-", "1", ""},
                  {"{% if 1 %}", "", "{% endif %}"},
                  {"x[", "0", "]"},
                  {"1+", "1", ""},
                  {"x.a", "", ""},
                  {"1 if 1 else ", "1", ""},
                  {"{1:", "1", "}"},
                  {"x|trim(", "1", ")"},
                  {"{% for x in y %}", "", "{% endfor %}"}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bool block = shapes[i].open[0] == '{' && shapes[i].open[1] == '%';
        struct buf source = {0};
        buf_str(&source, block ? "" : "{{ ");
        for (int k = 0; k < 20000; k++) buf_str(&source, shapes[i].open);
        buf_str(&source, shapes[i].middle);
        for (int k = 0; k < 20000; k++) buf_str(&source, shapes[i].close);
        buf_str(&source, block ? "" : " }}");
        char *got = run(source.data, "[]");
        assert_memory_equal(got, "error:", 6);
        free(got);
        buf_free(&source);
    }
}

static const char sample[] =
    "{%- macro m(a, b=1) -%}{{ a ~ b }}{%- endmacro -%}{% set ns = namespace(x=0) %}{# c #}\n"
    "{% for m_ in messages if m_.role != 'tool' %}{% set ns.x = ns.x + 1 %}{{ loop.index }}{{ m_.content | trim | "
    "replace('h', 'H') }}\n"
    "{% elif %}{% else %}none{% endfor %}{{ m('q', b=[1, 2.5, {'k': none}] | tojson(indent=2)) }}{% raw %}{{{% endraw %}\n"
    "{%- if messages[-1]['role'] in ('user', 'tool') and not (1 > 2) %}{{ messages[::-1] | map(attribute='role') | join(', "
    "') }}{% endif %}";

static void damaged_templates_never_crash(void **state) {
    uint64_t random = 11;
    static const char pieces[][12] = {"{{", "}}",   "{%",  "%}",    "{#",   "#}",   "(",  ")", "[",      "]",    "|",   "'",
                                      "\"", "for ", "if ", "endif", "set ", ".",    ",",  "~", "is ",    "not ", "in ", "-",
                                      "+",  "\\",   "\n",  "0x",    "1e9",  "\xC3", "**", "%", "macro ", "else", "loop"};
    for (int round = 0; round < 6000; round++) {
        struct buf source = {0};
        buf_str(&source, sample);
        for (uint64_t k = next_random(&random) % 4 + 1; k > 0; k--) {
            size_t at = next_random(&random) % source.len, n = next_random(&random) % 12;
            const char *piece = pieces[next_random(&random) % (sizeof pieces / sizeof *pieces)];
            struct buf changed = {0};
            buf_append(&changed, source.data, at);
            buf_str(&changed, piece);
            size_t rest = at + n < source.len ? at + n : source.len;
            buf_append(&changed, source.data + rest, source.len - rest);
            buf_free(&source);
            source = changed;
        }
        if (round % 5 == 0) source.len = next_random(&random) % source.len, source.data[source.len] = '\0';
        free(run(source.data, "[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"tool\",\"content\":null}]"));
        buf_free(&source);
    }
}

// ---- messages ----

static char *normalise(const char *source, const char *messages) {
    struct chat_template *t = NULL;
    struct error e = {0};
    assert_int_equal(template_create(source, strlen(source), &t, &e), ERR_NONE);
    json_t *json = parse(messages), *out = NULL;
    char *text;
    if (messages_normalise(t, json, &out, &e) == ERR_NONE) {
        text = json_dumps(out, JSON_COMPACT);
    } else {
        assert_int_equal(e.id, ERR_INVALID_ARGUMENT);
        text = malloc(600);
        snprintf(text, 600, "%s: %s", e.param, e.text);
    }
    json_decref(json);
    json_decref(out);
    template_destroy(t);
    return text;
}

static void messages_take_the_shape_that_the_template_expects(void **state) {
    static const struct {
        const char *source, *messages, *wanted;
    } cases[] = {
        {"", "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]",
         "[{\"role\":\"user\",\"content\":\"a\\nb\"}]"},
        {"{% for p in m.content %}{% endfor %}", "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]"},
        {"{{ m.content is string }}{% for p in m['content'] %}{% endfor %}",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]",
         "[{\"role\":\"user\",\"content\":\"a\"}]"},
        {"", "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]}]",
         "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": "
         "1}\"}}],\"content\":null}]"},
        {"{{ c.arguments | tojson }}",
         "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{"
         "\\\"a\\\":1}\"}}]}]",
         "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]"
         "}]"},
        {"", "[]", "messages: messages must not be empty"},
        {"", "{}", "messages: messages must be an array"},
        {"", "[1]", "messages[0]: messages[0] must be an object"},
        {"", "[{\"content\":\"\"}]", "messages[0].role: messages[0].role must be a string"},
        {"", "[{\"role\":\"user\"}]", "messages[0].content: messages[0].content is missing"},
        {"", "[{\"role\":\"user\",\"content\":3}]",
         "messages[0].content: messages[0].content must be a string, an array of parts, or null"},
        {"", "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
         "messages[0].content[0]: messages[0].content[0]: only parts of type \"text\" are supported by this model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = normalise(cases[i].source, cases[i].messages);
        assert_string_equal(got, cases[i].wanted);
        free(got);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_template_runs_over_messages),
        cmocka_unit_test(refusals_name_line_and_thing),
        cmocka_unit_test(nothing_runs_forever_or_eats_all_memory),
        cmocka_unit_test(deep_sources_are_refused),
        cmocka_unit_test(damaged_templates_never_crash),
        cmocka_unit_test(messages_take_the_shape_that_the_template_expects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
