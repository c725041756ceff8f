#include "tests/unit/worker/text/tokenizers.h"
#include "worker/text/onig.h"
#include "worker/text/utf8.h"

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void expect_ids(const struct tokenizer *t, const char *text, size_t len, unsigned flags, size_t n,
                       const uint32_t *ids) {
    struct ids got = {0};
    struct error e = {0};
    assert_int_equal(tokenizer_encode(t, text, len, flags, &got, &e), ERR_NONE);
    assert_int_equal(got.len, n);
    if (n > 0) assert_memory_equal(got.data, ids, n * sizeof *ids);
    ids_free(&got);
}

#define EXPECT_IDS(t, text, flags, ...)                                                                                     \
    do {                                                                                                                    \
        const uint32_t ids_[] = {__VA_ARGS__};                                                                              \
        expect_ids(t, text, sizeof text - 1, flags, sizeof ids_ / sizeof *ids_, ids_);                                      \
    } while (0)

static void merges_apply_in_order_of_rank_inside_the_pattern_s_pieces(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    EXPECT_IDS(t, "hello w12", 0, 258, 'o', 259, 260);
    expect_ids(t, "", 0, ENCODE_PARSE_ADDED, 0, NULL);
    tokenizer_destroy(t);
}

static void added_tokens_are_ids_only_when_asked_for(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    EXPECT_IDS(t, "<s>a<|User|>", ENCODE_PARSE_ADDED, 300, 'a', 304);
    EXPECT_IDS(t, "<s>", 0, '<', 's', '>');
    EXPECT_IDS(t, "<think></think", ENCODE_PARSE_ADDED, 302, '<', '/', 't', 'h', 'i', 'n', 'k');
    tokenizer_destroy(t);
}

static void special_ids_come_from_the_post_processor_or_else_from_the_config(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    EXPECT_IDS(t, "a", ENCODE_ADD_SPECIAL, 300, 'a');
    assert_int_equal(tokenizer_bos(t), 300);
    assert_int_equal(tokenizer_eos(t), 301);
    assert_string_equal(tokenizer_eos_text(t), "</s>");
    assert_true(tokenizer_is_special(t, 300) && !tokenizer_is_special(t, 302) && tokenizer_is_added(t, 302));
    assert_int_equal(tokenizer_vocab_size(t), 305);
    tokenizer_destroy(t);
    t = tokenizer_of(sentencepiece_json);
    EXPECT_IDS(t, "ab", ENCODE_ADD_SPECIAL, 1, 264);
    tokenizer_destroy(t);
}

static void characters_that_are_not_known_become_their_bytes(void **state) {
    struct tokenizer *t = tokenizer_of(sentencepiece_json);
    EXPECT_IDS(t, "ab c\xC3\xA9", 0, 264, 259, 262, 3 + 0xC3, 3 + 0xA9);
    tokenizer_destroy(t);
}

static void bytes_that_are_not_utf8_count_as_replacement_characters(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    EXPECT_IDS(t, "\xFF", 0, 0xEF, 0xBF, 0xBD);
    EXPECT_IDS(t, "\xE4\xBD", 0, 0xEF, 0xBF, 0xBD);
    EXPECT_IDS(t, "\xED\xA0\x80", 0, 0xEF, 0xBF, 0xBD, 0xEF, 0xBF, 0xBD, 0xEF, 0xBF, 0xBD);
    tokenizer_destroy(t);
}

static void a_megabyte_of_one_letter_takes_linear_time(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    size_t n = 1 << 20;
    char *text = malloc(n);
    memset(text, 'l', n);
    struct ids ids = {0};
    struct error e = {0};
    assert_int_equal(tokenizer_encode(t, text, n, 0, &ids, &e), ERR_NONE);
    assert_int_equal(ids.len, n / 2);
    assert_int_equal(ids.data[0], 257);
    ids_free(&ids);
    free(text);
    tokenizer_destroy(t);
}

static void short_and_long_pieces_merge_alike(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    uint64_t random = 1;
    for (int round = 0; round < 300; round++) {
        char text[400];
        size_t n = 1 + next_random(&random) % 399;
        for (size_t i = 0; i < n; i++) text[i] = "hel"[next_random(&random) % 3];
        // No merge crosses an 'x', and the letters are one piece: cutting it there into short pieces must change nothing.
        for (size_t i = 30; i < n; i += 31) text[i] = 'x';
        struct ids whole = {0}, parts = {0};
        struct error e = {0};
        assert_int_equal(tokenizer_encode(t, text, n, 0, &whole, &e), ERR_NONE);
        for (size_t i = 0; i < n; i += 31) {
            size_t len = n - i < 31 ? n - i : 31;
            assert_int_equal(tokenizer_encode(t, text + i, len, 0, &parts, &e), ERR_NONE);
        }
        assert_int_equal(whole.len, parts.len);
        assert_memory_equal(whole.data, parts.data, whole.len * sizeof *whole.data);
        ids_free(&whole);
        ids_free(&parts);
    }
    tokenizer_destroy(t);
}

static err_id create(const char *json, size_t len, struct tokenizer **t, struct error *e) {
    return tokenizer_create((struct bytes){json, len}, (struct bytes){NULL, 0}, t, e);
}

static void what_is_not_known_is_refused_by_name(void **state) {
    static const struct {
        const char *json, *word;
    } bad[] = {
        {"{", "not valid JSON"},
        {"[]", "object"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "Unigram"},
        {"{\"normalizer\":{\"type\":\"Precompiled\"}}", "Precompiled"},
        {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"UnicodeScripts\"}]}}", "UnicodeScripts"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a(\"},\"behavior\":\"Isolated\"}}",
         "regular expression"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Odd\"}}", "Odd"},
        {"{\"decoder\":{\"type\":\"WordPiece\"}}", "WordPiece"},
        {"{\"post_processor\":{\"type\":\"New\"}}", "New"},
        {"{}", "model"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "\"ab\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "two tokens"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "integer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4000000000},\"merges\":[]}}", "integer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[],\"unk_token\":\"u\"}}", "unk_token"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"added_tokens\":[{\"content\":\"x\"}]}", "id"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tokenizer *t = NULL;
        struct error e = {0};
        assert_int_equal(create(bad[i].json, strlen(bad[i].json), &t, &e), ERR_MODEL_FILES);
        if (strstr(e.text, bad[i].word) == NULL) fail_msg("\"%s\" does not name %s", e.text, bad[i].word);
    }
}

static void cut_and_damaged_files_never_crash(void **state) {
    void (*const makers[])(struct buf *) = {byte_level_json, sentencepiece_json};
    uint64_t random = 7;
    for (int round = 0; round < 1200; round++) {
        struct buf json = {0};
        makers[round % 2](&json);
        size_t changes = 1 + next_random(&random) % 3;
        for (size_t i = 0; i < changes; i++) {
            size_t at = next_random(&random) % json.len;
            json.data[at] = "\"{}[]:,0a\\ <t"[next_random(&random) % 13];
        }
        if (round % 3 == 0) json.len = next_random(&random) % json.len;
        struct tokenizer *t = NULL;
        struct error e = {0};
        if (create(json.data, json.len, &t, &e) == ERR_NONE) {
            struct ids ids = {0};
            static const char text[] = "hello <s>w12 ab \xC3\xA9\xFF  \n<think>x";
            tokenizer_encode(t, text, sizeof text - 1, ENCODE_PARSE_ADDED | ENCODE_ADD_SPECIAL, &ids, &e);
            struct buf back = {0};
            tokenizer_decode(t, ids.data, ids.len, round % 2, &back);
            buf_free(&back);
            ids_free(&ids);
        } else {
            assert_true(e.text[0] != '\0');
        }
        tokenizer_destroy(t);
        buf_free(&json);
    }
}

struct shared {
    const struct tokenizer *t;
    struct ids expected;
    bool wrong;
};
static const char shared_text[] = "hello w12 <|User|> \xE4\xBD\xA0\xE5\xA5\xBD  it's \xF0\x9F\x99\x82\n\n 'll";

static void *encode_repeatedly(void *argument) {
    struct shared *s = argument;
    for (int i = 0; i < 2000; i++) {
        struct ids ids = {0};
        struct error e = {0};
        err_id id = tokenizer_encode(s->t, shared_text, sizeof shared_text - 1, ENCODE_PARSE_ADDED, &ids, &e);
        bool same = id == ERR_NONE && ids.len == s->expected.len &&
                    memcmp(ids.data, s->expected.data, ids.len * sizeof *ids.data) == 0;
        struct buf text = {0};
        tokenizer_decode(s->t, ids.data, ids.len, false, &text);
        if (!same || text.len != sizeof shared_text - 1) s->wrong = true;
        buf_free(&text);
        ids_free(&ids);
    }
    return NULL;
}

static void one_tokenizer_serves_several_threads(void **state) {
    struct tokenizer *t = tokenizer_of(byte_level_json);
    struct shared s[4];
    pthread_t threads[4];
    struct error e = {0};
    for (int i = 0; i < 4; i++) {
        s[i] = (struct shared){.t = t};
        assert_int_equal(tokenizer_encode(t, shared_text, sizeof shared_text - 1, ENCODE_PARSE_ADDED, &s[i].expected, &e),
                         ERR_NONE);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, encode_repeatedly, &s[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_false(s[i].wrong);
        ids_free(&s[i].expected);
    }
    tokenizer_destroy(t);
}

static void oniguruma_s_expressions_are_said_in_pcre2_s_words(void **state) {
    static const struct {
        const char *from, *to; // NULL: refused
    } cases[] = {
        {"a+", "a+"},
        {"[a-c\\]]", "[a-c\\x{5D}]"},
        {"\\h", "[0-9A-Fa-f]"},
        {"(?m:.)", "(?s:.)"},
        {"a{,3}", "a{0,3}"},
        {"{x}", "\\{x}"},
        {"[a[bc]]", "[abc]"},
        {"[a[^b]]", "(?:[a]|[^b])"},
        {"[a-z&&[^b]]", "(?:(?=[a-z])(?:[^b]))"},
        {"[-a]", "[\\x{2D}a]"},
        {"\\p{^L}", "(?:[^\\p{L}])"},
        {"a{1,2}+", NULL},
        {"[a", NULL},
        {"\\K", NULL},
        {"(?P<n>a)", NULL},
        {"\\p{", NULL},
        {"[b-a]", NULL},
        {"\\", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out = {0};
        struct error e = {0};
        err_id id = onig_translate(cases[i].from, strlen(cases[i].from), false, &out, &e);
        if (cases[i].to == NULL) {
            assert_int_equal(id, ERR_MODEL_FILES);
        } else {
            assert_int_equal(id, ERR_NONE);
            assert_string_equal(out.data, cases[i].to);
        }
        buf_free(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_apply_in_order_of_rank_inside_the_pattern_s_pieces),
        cmocka_unit_test(added_tokens_are_ids_only_when_asked_for),
        cmocka_unit_test(special_ids_come_from_the_post_processor_or_else_from_the_config),
        cmocka_unit_test(characters_that_are_not_known_become_their_bytes),
        cmocka_unit_test(bytes_that_are_not_utf8_count_as_replacement_characters),
        cmocka_unit_test(a_megabyte_of_one_letter_takes_linear_time),
        cmocka_unit_test(short_and_long_pieces_merge_alike),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(cut_and_damaged_files_never_crash),
        cmocka_unit_test(one_tokenizer_serves_several_threads),
        cmocka_unit_test(oniguruma_s_expressions_are_said_in_pcre2_s_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
