// Masks against the plain definition: a token is allowed exactly if its bytes can be pushed. Random vocabularies whose
// tokens cut characters anywhere, random walks, patterns of every construct.
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/grammar/automaton.h"
#include "worker/grammar/mask.h"
#include "worker/grammar/utf8_ranges.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 700 };

static uint64_t dice_state = 7;
static uint32_t dice(uint32_t n) { return (uint32_t)(hash_mix(dice_state += UINT64_C(0x9E3779B97F4A7C15)) >> 16) % n; }

struct words {
    char text[VOCAB][8];
    size_t len[VOCAB];
};

static const char *word_bytes(void *ctx, uint32_t id, size_t *len) {
    struct words *w = ctx;
    *len = w->len[id];
    return w->text[id];
}

// The 256 bytes, and random cuttings of text with characters of every length.
static void make_words(struct words *w) {
    static const char POOL[] = "ab01{}[]\",: \\n\\u00e9é漢🐟\n-.e\"},[[]]";
    for (uint32_t i = 0; i < VOCAB; i++) {
        w->len[i] = i < 256 ? 1 : 1 + dice(6);
        if (i < 256)
            w->text[i][0] = (char)i;
        else
            memcpy(w->text[i], POOL + dice((uint32_t)(sizeof POOL - 7)), w->len[i]);
    }
    w->len[300] = 0; // a special token
}

// Builds the network of a pattern; json: between quotes, as a JSON string.
static void net_of(struct network *net, const char *pattern, bool json) {
    struct automaton *a;
    struct error e = {0};
    assert_int_equal(automaton_regex(pattern, strlen(pattern), false, &a, &e), ERR_NONE);
    network_init(net, 1 << 20);
    uint32_t start = network_node(net), in = network_node(net), out = network_node(net), end = network_final(net);
    network_text(net, start, "\"", json, in);
    automaton_emit(a, json, net, in, out);
    network_text(net, out, "\"", json, end);
    assert_int_equal(network_finish(net, start, &e), ERR_NONE);
    automaton_free(a);
}

// [ items ] in brackets, nested; an item is a string of at most 5 characters; from 1 to 4 items.
static void net_of_lists(struct network *net) {
    struct error e = {0};
    network_init(net, 10000);
    uint32_t list = network_node(net), item = network_node(net), comma_item = network_node(net), end = network_final(net);
    uint32_t in = network_node(net), first = network_node(net), rest = network_node(net), chars = network_node(net);
    uint32_t c = network_node(net), quote = network_node(net);
    network_text(net, list, "[", 1, in);
    network_call(net, in, item, first);
    network_repeat(net, first, comma_item, 0, 3, rest);
    network_text(net, rest, "]", 1, end);
    network_text(net, comma_item, ",", 1, item);
    network_jump(net, item, list);
    network_text(net, item, "\"", 1, chars);
    network_repeat(net, chars, c, 1, 5, quote);
    network_text(net, quote, "\"", 1, end);
    struct automaton *a;
    assert_int_equal(automaton_regex("[^\\x00-\\x1f\"\\\\]", 15, false, &a, &e), ERR_NONE);
    automaton_emit(a, false, net, c, end);
    automaton_free(a);
    assert_int_equal(network_finish(net, list, &e), ERR_NONE);
}

static bool can_push(const struct network *net, uint32_t max, const char *text, size_t len, const char *more, size_t n) {
    struct matcher m;
    matcher_init(&m, net, max);
    assert_true(matcher_push(&m, text, len));
    bool ok = matcher_push(&m, more, n);
    matcher_fini(&m);
    return ok;
}

// Walks at random by the masks; every mask is checked token by token. The text walked, when it came to an end.
static bool walk(const struct network *net, const struct vocabulary *v, struct mask_cache *cache, char *text, size_t *len) {
    struct matcher m;
    uint32_t mask[(VOCAB + 31) / 32], allowed[VOCAB];
    matcher_init(&m, net, v->bytes_max);
    bool ended = false;
    for (*len = 0; *len < 40 && !ended;) {
        uint32_t n = 0;
        assert_true(mask_fill(cache, &m, mask));
        for (uint32_t t = 0; t < VOCAB; t++) {
            bool may = mask[t / 32] >> t % 32 & 1;
            bool can = v->lens[t] > 0 && can_push(net, v->bytes_max, text, *len, v->bytes[t], v->lens[t]);
            if (may != can) fail_msg("token %u behind '%.*s': mask %d, truth %d", t, (int)*len, text, may, can);
            if (may) allowed[n++] = t;
        }
        ended = matcher_complete(&m) && (n == 0 || dice(4) == 0);
        assert_true(n > 0 || ended); // never a dead end
        if (ended) break;
        uint32_t t = allowed[dice(n)];
        assert_true(matcher_push(&m, v->bytes[t], v->lens[t]));
        memcpy(text + *len, v->bytes[t], v->lens[t]);
        *len += v->lens[t];
    }
    matcher_fini(&m);
    return ended;
}

static const char *const PATTERNS[] = {
    "(ab|01)*",     "[a-z]{2,5}-?\\d+",       ".*",      "[^b]{0,6}é?",
    "漢+|🐟{2}|a.b", "(a|b)*a(a|b){3}",        "^ab$|^$", "\\{\"a\": (\\d|-)+\\}",
    "[\\s\\S]{3}",  "(?:x?){3}y|\\u00e9\\n*",
};

static void test_a_mask_names_the_tokens_that_can_follow(void **state) {
    (void)state;
    for (uint32_t k = 0; k < 2 * ARRAY_LEN(PATTERNS); k++) {
        static struct words w;
        struct network net;
        struct automaton *a;
        struct error e = {0};
        const char *pattern = PATTERNS[k / 2];
        char text[64];
        size_t len;
        make_words(&w);
        net_of(&net, pattern, k % 2);
        struct vocabulary *v = vocabulary_create(VOCAB, word_bytes, &w);
        struct mask_cache *cache = mask_cache_create(v, 4000); // a few masks: it forgets
        assert_int_equal(automaton_regex(pattern, strlen(pattern), false, &a, &e), ERR_NONE);
        for (uint32_t i = 0; i < 4; i++)
            if (walk(&net, v, cache, text, &len) && k % 2 == 0) assert_true(automaton_matches(a, text, len));
        assert_true(mask_cache_bytes(cache) < 20000);
        automaton_free(a);
        mask_cache_destroy(cache);
        vocabulary_destroy(v);
        network_fini(&net);
    }
}

static void test_counters_and_recursion_are_masked_right(void **state) {
    (void)state;
    static struct words w;
    struct network net;
    char text[64];
    size_t len;
    make_words(&w);
    net_of_lists(&net);
    struct vocabulary *v = vocabulary_create(VOCAB, word_bytes, &w);
    struct mask_cache *cache = mask_cache_create(v, 1 << 20);
    for (uint32_t i = 0; i < 12; i++) walk(&net, v, cache, text, &len);
    mask_cache_destroy(cache);
    vocabulary_destroy(v);
    network_fini(&net);
}

static void check(const char *pattern, bool search, const char *text, bool want) {
    struct automaton *a;
    struct error e = {0};
    if (automaton_regex(pattern, strlen(pattern), search, &a, &e) != ERR_NONE) fail_msg("%s: %s", pattern, e.text);
    bool got = automaton_matches(a, text, strlen(text));
    automaton_negate(a);
    if (got != want || automaton_matches(a, text, strlen(text)) == want) fail_msg("%s on '%s'", pattern, text);
    automaton_free(a);
}

static void test_patterns_match_what_ecma_262_says(void **state) {
    (void)state;
    check("^a*$", true, "aaa", true), check("^a*$", true, "abc", false), check("a+", true, "xxaayy", true);
    check("a+", false, "xaa", false), check("^b|c$", true, "xc", true), check("^b|c$", true, "cb", false);
    check("a{2,3}", false, "aaaa", false), check("a{2,}", false, "aaaa", true), check("a{,3}", false, "a{,3}", true);
    check(".", false, "\n", false), check("[^\\d]", false, "5", false), check("[\\w-]+", false, "a-_9", true);
    check("\\S", false, "\xC2\xA0", false), check("\\u{1F41F}|\\ud83d\\udc1f", false, "🐟", true),
        check("[à-ï]", false, "é", true);
    check("", true, "", true), check("(a|)+b", false, "aab", true), check("a$b", true, "ab", false),
        check("(^a)*b", true, "aab", true);
    check("(?<year>\\d{4})-\\x41\\/", false, "2024-A/", true);
    struct automaton *a;
    assert_int_equal(automaton_regex(".", 1, true, &a, NULL), ERR_NONE);
    assert_false(automaton_matches(a, "a\xC3", 2)); // not UTF-8
    automaton_free(a);
}

static void test_what_is_not_supported_is_refused_by_name(void **state) {
    (void)state;
    static const char *const BAD[][2] = {{"(?=a)", "look-around"},
                                         {"(a)\\1", "back reference"},
                                         {"\\bx", "\\b"},
                                         {"\\p{L}", "\\p"},
                                         {"[b-a]", "range"},
                                         {"(a", "("},
                                         {"a)", ")"},
                                         {"[a", "["},
                                         {"*", "repeats nothing"},
                                         {"a**", "repetition"},
                                         {"a{3,2}", "order"},
                                         {"a{20000}", "10000"},
                                         {"\\", "backslash"},
                                         {"\xFF", "UTF-8"},
                                         {"(((a{99}){99}){99})", "simpler"}};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct automaton *a;
        struct error e = {0};
        assert_int_equal(automaton_regex(BAD[i][0], strlen(BAD[i][0]), false, &a, &e), ERR_INVALID_ARGUMENT);
        if (strstr(e.text, BAD[i][1]) == NULL) fail_msg("'%s' for %s", e.text, BAD[i][0]);
        assert_null(a);
    }
}

static void count_sequence(void *ctx, const struct utf8_sequence *s) {
    uint32_t n = 1;
    for (uint32_t i = 0; i < s->n; i++) n *= (uint32_t)(s->hi[i] - s->lo[i] + 1);
    *(uint32_t *)ctx += n;
}

static void test_ranges_of_code_points_become_each_of_their_encodings_once(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t a = dice(i % 2 ? 0x3000 : CODE_POINT_MAX + 1), b = a + dice(i % 3 ? 200 : 0x110000), n = 0, want;
        b = b > CODE_POINT_MAX ? CODE_POINT_MAX : b;
        utf8_ranges(a, b, count_sequence, &n);
        uint32_t lo = a > 0xD800 ? a : 0xD800, hi = b < 0xDFFF ? b : 0xDFFF;
        want = b - a + 1 - (lo <= hi ? hi - lo + 1 : 0);
        if (n != want) fail_msg("%x to %x: %u of %u", a, b, n, want);
    }
}

static void test_no_pattern_does_harm(void **state) {
    (void)state;
    static const char PIECES[] = "ab()[]{}|*+?^$\\.d-,09wu:<=!\xC3\xA9";
    for (uint32_t i = 0; i < 3000; i++) {
        char pattern[24];
        uint32_t len = dice(sizeof pattern);
        for (uint32_t k = 0; k < len; k++) pattern[k] = PIECES[dice(sizeof PIECES)];
        struct automaton *a;
        struct error e = {0};
        if (automaton_regex(pattern, len, i % 2, &a, &e) == ERR_NONE) automaton_matches(a, pattern, len);
        automaton_free(a);
    }
}

static void test_a_part_that_is_itself_or_never_ends_is_refused(void **state) {
    (void)state;
    struct network net;
    struct error e = {0};
    network_init(&net, 100);
    uint32_t a = network_node(&net), end = network_final(&net);
    network_call(&net, a, a, end);
    network_text(&net, a, "x", 1, end);
    assert_int_equal(network_finish(&net, a, &e), ERR_INVALID_ARGUMENT);
    network_fini(&net);
    network_init(&net, 100);
    a = network_node(&net);
    network_text(&net, a, "xy", 2, a);
    assert_int_equal(network_finish(&net, a, &e), ERR_INVALID_ARGUMENT);
    network_fini(&net);
    network_init(&net, 10);
    a = network_node(&net);
    network_text(&net, a, "a text that is too long", 23, a);
    assert_int_equal(network_finish(&net, a, &e), ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(e.text, "limit of 10"));
    network_fini(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mask_names_the_tokens_that_can_follow),
        cmocka_unit_test(test_counters_and_recursion_are_masked_right),
        cmocka_unit_test(test_patterns_match_what_ecma_262_says),
        cmocka_unit_test(test_what_is_not_supported_is_refused_by_name),
        cmocka_unit_test(test_ranges_of_code_points_become_each_of_their_encodings_once),
        cmocka_unit_test(test_no_pattern_does_harm),
        cmocka_unit_test(test_a_part_that_is_itself_or_never_ends_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
