// Detokenizer, stop strings, channels, and the output that is composed of them.
#include "common/base/limits.h"
#include "tests/unit/worker/text/tokenizers.h"
#include "worker/text/channel.h"
#include "worker/text/detokenizer.h"
#include "worker/text/output.h"
#include "worker/text/stop.h"
#include "worker/text/utf8.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *chars(const struct buf *b) { return b->data ? b->data : ""; }

// ---- detokenizer ----

static void every_prefix_detokenizes_to_what_decoding_it_whole_gives(void **state) {
    void (*const makers[])(struct buf *) = {byte_level_json, sentencepiece_json};
    uint64_t random = 3;
    for (int kind = 0; kind < 2; kind++) {
        struct tokenizer *t = tokenizer_of(makers[kind]);
        for (int round = 0; round < 400; round++) {
            uint32_t ids[24];
            size_t n = next_random(&random) % 24;
            for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)(next_random(&random) % (tokenizer_vocab_size(t) + 2));
            struct buf streamed = {0}, whole = {0}, finished = {0};
            for (size_t cut = 0; cut <= n; cut++) {
                struct detokenizer d;
                detokenizer_init(&d, t, round % 2);
                buf_reset(&streamed), buf_reset(&whole);
                for (size_t i = 0; i < cut; i++) {
                    size_t before = streamed.len;
                    detokenizer_push(&d, ids[i], &streamed);
                    // Whole characters only.
                    assert_int_equal(utf8_valid_prefix(chars(&streamed) + before, streamed.len - before),
                                     streamed.len - before);
                }
                detokenizer_finish(&d, &streamed);
                tokenizer_decode(t, ids, cut, round % 2, &whole);
                assert_string_equal(chars(&streamed), chars(&whole));
                detokenizer_fini(&d);
            }
            buf_free(&streamed), buf_free(&whole), buf_free(&finished);
        }
        tokenizer_destroy(t);
    }
}

static void a_character_comes_with_the_token_that_completes_it(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    struct detokenizer d;
    struct buf out = {0};
    detokenizer_init(&d, t, true);
    detokenizer_push(&d, 0xE4, &out);
    detokenizer_push(&d, 0xBD, &out);
    assert_int_equal(out.len, 0);
    detokenizer_push(&d, 300, &out); // a special token between changes nothing
    detokenizer_push(&d, 0xA0, &out);
    assert_string_equal(out.data, "\xE4\xBD\xA0");
    buf_reset(&out);
    detokenizer_push(&d, 0xE4, &out);
    detokenizer_push(&d, 'a', &out);
    assert_string_equal(out.data, "\xEF\xBF\xBD"
                                  "a");
    detokenizer_fini(&d);
    buf_free(&out);
    tokenizer_destroy(t);
}

static void a_run_of_byte_tokens_that_is_not_utf8_is_one_mark_per_byte(void **state) {
    struct tokenizer *t = tokenizer_of(sentencepiece_json);
    const uint32_t ids[] = {259, 3 + 0xC3, 3 + 0xA9, 260, 3 + 0xC3, 3 + 0xFF, 261};
    struct buf out = {0};
    tokenizer_decode(t, ids, 7, true, &out);
    assert_string_equal(out.data, "\xC3\xA9"
                                  "a\xEF\xBF\xBD\xEF\xBF\xBD"
                                  "b"); // the first space is stripped
    buf_free(&out);
    tokenizer_destroy(t);
}

// ---- stop strings ----

// What the definition says: the match that ends first, the longest of those; text before it, or all.
static bool naive_stop(const char *text, size_t n, const char *const *stops, uint32_t n_stops, bool include, size_t *kept) {
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (uint32_t i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && len > longest && memcmp(text + end - len, stops[i], len) == 0) longest = len;
        }
        if (longest > 0) {
            *kept = end - (include ? 0 : longest);
            return true;
        }
    }
    *kept = n;
    return false;
}

static void stop_strings_match_as_defined_however_the_text_is_cut(void **state) {
    uint64_t random = 5;
    for (int round = 0; round < 4000; round++) {
        char text[60], words[STOP_STRINGS_MAX][6];
        const char *stops[STOP_STRINGS_MAX];
        uint32_t n_stops = (uint32_t)(next_random(&random) % 4);
        size_t n = next_random(&random) % sizeof text, kept;
        for (size_t i = 0; i < n; i++) text[i] = "ab"[next_random(&random) % 2];
        for (uint32_t i = 0; i < n_stops; i++) {
            size_t len = 1 + next_random(&random) % 5;
            for (size_t k = 0; k < len; k++) words[i][k] = "abb"[next_random(&random) % 3];
            words[i][len] = '\0';
            stops[i] = words[i];
        }
        bool include = round % 2, matched = false;
        struct stop *s;
        struct error e = {0};
        assert_int_equal(stop_create(stops, n_stops, include, &s, &e), ERR_NONE);
        struct buf out = {0};
        for (size_t at = 0; at < n;) {
            size_t len = 1 + next_random(&random) % 7;
            if (len > n - at) len = n - at;
            if (stop_push(s, text + at, len, &out)) matched = true;
            // Nothing is released that a stop string could still take back.
            naive_stop(text, n, stops, n_stops, include, &kept);
            assert_true(out.len <= kept);
            at += len;
        }
        stop_finish(s, &out);
        assert_int_equal(matched, naive_stop(text, n, stops, n_stops, include, &kept));
        assert_int_equal(stop_matched(s), matched);
        assert_int_equal(out.len, kept);
        if (kept > 0) assert_memory_equal(out.data, text, kept);
        buf_free(&out);
        stop_destroy(s);
    }
}

static void the_limits_of_stop_strings_hold(void **state) {
    const char *stops[STOP_STRINGS_MAX + 1];
    char longest[STOP_STRING_BYTES_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i <= STOP_STRINGS_MAX; i++) stops[i] = "x";
    struct stop *s = NULL;
    struct error e = {0};
    assert_int_equal(stop_create(stops, STOP_STRINGS_MAX + 1, false, &s, &e), ERR_INVALID_ARGUMENT);
    assert_string_equal(e.param, "stop");
    assert_int_equal(stop_create(stops, STOP_STRINGS_MAX, false, &s, &e), ERR_NONE);
    stop_destroy(s);
    stops[0] = longest;
    assert_int_equal(stop_create(stops, 1, false, &s, &e), ERR_INVALID_ARGUMENT);
    longest[STOP_STRING_BYTES_MAX] = '\0';
    assert_int_equal(stop_create(stops, 1, false, &s, &e), ERR_NONE);
    struct buf out = {0};
    assert_true(stop_push(s, longest, STOP_STRING_BYTES_MAX, &out));
    stop_destroy(s);
    stops[0] = "";
    assert_int_equal(stop_create(stops, 1, false, &s, &e), ERR_INVALID_ARGUMENT);
    buf_free(&out);
}

// ---- channels ----

static void reasoning_and_content_are_split_however_the_text_is_cut(void **state) {
    static const struct {
        bool inside;
        const char *text, *reasoning, *content;
    } cases[] = {
        {true, "\nhm\n</think>\n\nyes", "hm\n", "yes"},
        {true, "no end </thin", "no end </thin", ""},
        {true, "a</think>", "a", ""},
        {true, "</think>x</think>", "", "x</think>"},
        {true, "a < b </ think> </think>\nc", "a < b </ think> ", "c"},
        {false, "<think>\nhm</think>\nyes", "hm", "yes"},
        {false, " \n<think>hm</think>yes", "hm", "yes"},
        {false, "plain", "", "plain"},
        {false, "  <thin air", "", "  <thin air"},
        {false, "a <think>b</think>", "", "a <think>b</think>"},
        {false, "<think", "", "<think"},
        {false, "", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].text);
        for (size_t step = 1; step <= n + 1; step++) {
            struct channel_splitter c;
            struct buf reasoning = {0}, content = {0};
            channel_init(&c, cases[i].inside);
            for (size_t at = 0; at < n; at += step)
                channel_push(&c, cases[i].text + at, n - at < step ? n - at : step, &reasoning, &content);
            channel_finish(&c, &reasoning, &content);
            assert_string_equal(chars(&reasoning), cases[i].reasoning);
            assert_string_equal(chars(&content), cases[i].content);
            channel_fini(&c);
            buf_free(&reasoning), buf_free(&content);
        }
    }
}

static void a_prompt_says_whether_its_answer_starts_inside(void **state) {
    assert_true(channel_starts_inside("x<think>\n", 9));
    assert_true(channel_starts_inside("<think>", 7));
    assert_false(channel_starts_inside("<think>\n\n</think>\n\n", 19));
    assert_false(channel_starts_inside("", 0));
    assert_false(channel_starts_inside("think>", 6));
}

// ---- output ----

struct said {
    struct buf text[2];
    size_t n_records;
    bool stopped;
    char log[4000]; // channel and text of each record
    size_t len;
};

static void note(struct said *s, const struct output_text *t) {
    buf_append(&s->text[t->channel], t->text, t->text_len);
    s->len += (size_t)snprintf(s->log + s->len, sizeof s->log - s->len, "[%d:%s]", t->channel, t->text);
}

static void say(const struct tokenizer *t, const struct output_options *options, const uint32_t *ids, size_t n,
                struct said *s) {
    struct output *o;
    struct error e = {0};
    *s = (struct said){0};
    assert_int_equal(output_create(t, options, &o, &e), ERR_NONE);
    struct output_text text;
    for (size_t i = 0; i < n && !s->stopped; i++) {
        output_push(o, ids[i], false, &text);
        note(s, &text);
        s->stopped = text.stopped;
    }
    do {
        output_finish(o, &text);
        note(s, &text);
    } while (text.text_len > 0);
    output_destroy(o);
}

static void said_free(struct said *s) { buf_free(&s->text[0]), buf_free(&s->text[1]); }

static void tokens_become_records_of_one_channel_each(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    const struct output_options options = {.split_reasoning = true, .starts_in_reasoning = true};
    const uint32_t ids[] = {'\n', 'a', 303, '\n', 'b', 301};
    struct said s;
    say(t, &options, ids, 6, &s);
    assert_string_equal(s.log, "[1:][1:a][1:][0:][0:b][0:][0:]");
    said_free(&s);
    // The mark written with ordinary tokens.
    const uint32_t spelled[] = {'a', '<', '/', 't', 'h', 'i', 'n', 'k', '>', 'b'};
    say(t, &options, spelled, 10, &s);
    assert_string_equal(s.log, "[1:a][1:][1:][1:][1:][1:][1:][1:][1:][0:b][0:]");
    said_free(&s);
    tokenizer_destroy(t);
}

static void without_splitting_everything_is_content(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    const struct output_options options = {.keep_special = true};
    const uint32_t ids[] = {300, 302, 'a', 303, 0xE4};
    struct said s;
    say(t, &options, ids, 5, &s);
    assert_string_equal(chars(&s.text[CHANNEL_CONTENT]), "<s><think>a</think>\xEF\xBF\xBD");
    said_free(&s);
    tokenizer_destroy(t);
}

static void a_stop_string_ends_the_content_but_not_the_reasoning(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    const char *const stops[] = {"ll", "xyz"};
    struct output_options options = {.split_reasoning = true, .starts_in_reasoning = true, .stop = stops, .n_stop = 2};
    const uint32_t ids[] = {258, 303, 'x', 'y', 258, 'o'};
    struct said s;
    say(t, &options, ids, 6, &s);
    assert_true(s.stopped);
    assert_string_equal(s.log, "[1:hell][1:][0:][0:][0:xyhe][0:]");
    said_free(&s);
    options.include_stop = true;
    say(t, &options, ids, 6, &s);
    assert_string_equal(chars(&s.text[CHANNEL_CONTENT]), "xyhell");
    said_free(&s);
    tokenizer_destroy(t);
}

static void replaying_gives_the_same_records_and_text_goes_on_anywhere(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    const char *const stops[] = {"stop", "\xE4\xBD\xA0!"};
    uint64_t random = 9;
    for (int round = 0; round < 300; round++) {
        uint32_t ids[40];
        for (int i = 0; i < 40; i++) {
            static const uint32_t often[] = {'s', 't', 'o', 'p', '\n', '<', '/', 302, 303, 300, 0xE4, 0xBD, 0xA0, '!', 258};
            ids[i] = next_random(&random) % 4 ? often[next_random(&random) % 15] : (uint32_t)(next_random(&random) % 310);
        }
        const struct output_options options = {
            .split_reasoning = round % 2, .starts_in_reasoning = round % 3 == 0, .stop = stops, .n_stop = 2};
        struct said a, b;
        say(t, &options, ids, 40, &a);
        say(t, &options, ids, 40, &b);
        assert_string_equal(a.log, b.log);
        said_free(&a), said_free(&b);
    }
    tokenizer_destroy(t);
}

static void a_record_has_at_most_its_limit_and_the_rest_follows(void **state) {
    struct buf json = {0};
    buf_str(&json, "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"");
    for (int i = 0; i < RECORD_TEXT_MAX / 2; i++) buf_str(&json, "\xC3\xA9");
    buf_str(&json, "x\":0}}}");
    struct tokenizer *t = NULL;
    struct error e = {0};
    assert_int_equal(tokenizer_create((struct bytes){json.data, json.len}, (struct bytes){NULL, 0}, &t, &e), ERR_NONE);
    struct output *o;
    struct output_text text;
    assert_int_equal(output_create(t, &(struct output_options){0}, &o, &e), ERR_NONE);
    output_push(o, 0, false, &text);
    assert_int_equal(text.text_len, RECORD_TEXT_MAX);
    output_push(o, 5, false, &text); // no such token
    assert_string_equal(text.text, "x");
    output_finish(o, &text);
    assert_int_equal(text.text_len, 0);
    output_destroy(o);
    tokenizer_destroy(t);
    buf_free(&json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_prefix_detokenizes_to_what_decoding_it_whole_gives),
        cmocka_unit_test(a_character_comes_with_the_token_that_completes_it),
        cmocka_unit_test(a_run_of_byte_tokens_that_is_not_utf8_is_one_mark_per_byte),
        cmocka_unit_test(stop_strings_match_as_defined_however_the_text_is_cut),
        cmocka_unit_test(the_limits_of_stop_strings_hold),
        cmocka_unit_test(reasoning_and_content_are_split_however_the_text_is_cut),
        cmocka_unit_test(a_prompt_says_whether_its_answer_starts_inside),
        cmocka_unit_test(tokens_become_records_of_one_channel_each),
        cmocka_unit_test(without_splitting_everything_is_content),
        cmocka_unit_test(a_stop_string_ends_the_content_but_not_the_reasoning),
        cmocka_unit_test(replaying_gives_the_same_records_and_text_goes_on_anywhere),
        cmocka_unit_test(a_record_has_at_most_its_limit_and_the_rest_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
