#include "common/sys/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void durations_are_read_exactly_or_refused(void **state) {
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},       {"0s", 0},     {"300ms", 300},  {"2s", 2000},
                {"1.5s", 1500}, {"0.001s", 1}, {"10m", 600000}, {"1h", 3600000}};
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "-1s",
                                      "+1s",
                                      " 1s",
                                      "1s ",
                                      "1.s",
                                      ".5s",
                                      "0.1ms",
                                      "1.0000000001s",
                                      "1d",
                                      "1 s",
                                      "99999999999999999999s",
                                      "18446744073709551615h",
                                      "1e3s",
                                      "0x10s"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(parse_duration(good[i].text, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse_duration(bad[i], &ms)) fail_msg("\"%s\" was taken for %llu ms", bad[i], (unsigned long long)ms);
}

static void sizes_count_in_1024_and_counts_in_1000(void **state) {
    uint64_t n;
    assert_true(parse_size("8MB", &n) && n == 8 << 20);
    assert_true(parse_size("1.5kb", &n) && n == 1536);
    assert_true(parse_size("512B", &n) && n == 512);
    assert_true(parse_size("4096", &n) && n == 4096);
    assert_false(parse_size("4M", &n)); // bytes or tokens? Say which
    assert_false(parse_size("16777216TB", &n));
    assert_true(parse_count("4M", &n) && n == 4000000);
    assert_true(parse_count("64k", &n) && n == 64000);
    assert_true(parse_count("1.5M", &n) && n == 1500000);
    assert_false(parse_count("8MB", &n));
    assert_false(parse_count("0.0001k", &n));
}

static void percentages_booleans_and_plain_numbers(void **state) {
    uint32_t p;
    uint64_t n;
    bool b;
    assert_true(parse_percent("40", &p) && p == 40);
    assert_true(parse_percent("40%", &p) && p == 40);
    assert_false(parse_percent("%", &p) || parse_percent("40%%", &p) || parse_percent("4294967296", &p));
    assert_true(parse_u64("18446744073709551615", &n) && n == UINT64_MAX);
    assert_false(parse_u64("18446744073709551616", &n) || parse_u64("", &n) || parse_u64("1a", &n));
    assert_true(parse_bool("yes", &b) && b);
    assert_true(parse_bool("off", &b) && !b);
    assert_false(parse_bool("1", &b) || parse_bool("TRUE", &b));
}

static void what_is_written_reads_back_the_same(void **state) {
    char text[PARSE_TEXT];
    for (uint64_t i = 0, v = 1; i < 200; i++, v = v * 3 + i) {
        uint64_t n;
        uint64_t ms = v % (UINT64_C(1) << 40);
        assert_true(parse_duration(format_duration(ms, text), &n) && n == ms);
        assert_true(parse_size(format_size(v, text), &n) && n == v);
        assert_true(parse_count(format_count(v, text), &n) && n == v);
    }
    assert_string_equal(format_duration(600000, text), "10m");
    assert_string_equal(format_duration(1500, text), "1500ms");
    assert_string_equal(format_size(8 << 20, text), "8MB");
    assert_string_equal(format_count(4000000, text), "4M");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_read_exactly_or_refused),
        cmocka_unit_test(sizes_count_in_1024_and_counts_in_1000),
        cmocka_unit_test(percentages_booleans_and_plain_numbers),
        cmocka_unit_test(what_is_written_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
