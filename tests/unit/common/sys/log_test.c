#include "common/sys/log.h"

#include "common/sys/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

// A pipe stands for stderr; what was logged since the last call is read from it.
static int pipe_ends[2];

static void open_log(enum log_format format, enum log_level level, const char *node) {
    log_open(&(struct log_options){.format = format, .level = level, .node = node, .fd = pipe_ends[1]});
}

static const char *logged(void) {
    static char text[2 * LOG_LINE_MAX];
    assert_int_equal(write(pipe_ends[1], "", 1), 1); // a zero byte, so that reading never waits
    ssize_t n = read(pipe_ends[0], text, sizeof text);
    assert_true(n > 0 && text[n - 1] == '\0');
    return text;
}

// The line behind its time.
static const char *after_time(const char *line) {
    assert_true(strlen(line) > 25);
    assert_int_equal(line[23], 'Z');
    return line + 25;
}

static void a_line_is_time_level_id_and_pairs(void **state) {
    open_log(LOG_FORMAT_KV, LEVEL_INFO, "router-a");
    log_info("worker_joined", "name=%s rtt_ms=%u id=w%02d", "w1", 3u, 7);
    assert_string_equal(after_time(logged()), "info worker_joined node=router-a name=w1 rtt_ms=3 id=w07\n");
    log_warn("plain", NULL);
    assert_string_equal(after_time(logged()), "warn plain node=router-a\n");
}

static void lines_below_the_level_are_dropped(void **state) {
    open_log(LOG_FORMAT_KV, LEVEL_WARN, NULL);
    log_info("quiet", "a=%d", 1);
    assert_string_equal(logged(), "");
    log_error("loud", "a=%d", 1);
    assert_string_equal(after_time(logged()), "error loud a=1\n");
}

static void no_value_can_forge_a_line_or_a_field(void **state) {
    open_log(LOG_FORMAT_KV, LEVEL_INFO, NULL);
    log_info("x", "a=%s b=%s c=%s d=%s", "1 b=2", "line\nbreak", "\x1b[31m\x7f\xc2\x9b", "");
    assert_string_equal(after_time(logged()),
                        "info x a=\"1 b=2\" b=\"line\\nbreak\" c=\"\\u001b[31m\\u007f\\u009b\" d=\"\"\n");
    log_info("x", "a=%s b=%s", "quote\"back\\slash", "bad\xff utf8 \xc3\xa4");
    assert_string_equal(after_time(logged()), "info x a=\"quote\\\"back\\\\slash\" b=\"bad\\xff utf8 \xc3\xa4\"\n");
}

static void json_lines_hold_numbers_and_strings(void **state) {
    open_log(LOG_FORMAT_JSON, LEVEL_INFO, "n");
    log_info("x", "a=%d b=%.1f c=%s d=%x e=%03d f=%f g=%s", -5, 1.5, "q\"", 255, 7, 1.0 / 0.0, "\xff");
    const char *line = logged();
    assert_memory_equal(line, "{\"ts\":\"2", 8);
    assert_string_equal(strstr(line, ",\"level\""),
                        ",\"level\":\"info\",\"id\":\"x\",\"node\":\"n\",\"a\":-5,\"b\":1.5,"
                        "\"c\":\"q\\\"\",\"d\":\"ff\",\"e\":\"007\",\"f\":\"inf\",\"g\":\"\\ufffd\"}\n");
}

static void every_conversion_is_understood(void **state) {
    open_log(LOG_FORMAT_KV, LEVEL_INFO, NULL);
    const char *volatile nothing = NULL; // the compiler would warn of it
    log_info("x", "a=%ld b=%llu c=%zu d=%hhd e=%hu f=%c g=%5.2f h=%-4dx i=%.*s j=%*d k=100%% l=%jd m=%td n=%s", -1L, 2ULL,
             (size_t)3, (char)-4, (unsigned short)5, 'c', 1.234, 7, 2, "abc", 4, 9, (intmax_t)10, (ptrdiff_t)11, nothing);
    assert_string_equal(after_time(logged()),
                        "info x a=-1 b=2 c=3 d=-4 e=5 f=c g=\" 1.23\" h=\"7   x\" i=ab j=\"   9\" k=100% l=10 m=11 "
                        "n=(null)\n");
}

static void a_slip_in_the_format_is_shown_and_harms_nothing(void **state) {
    open_log(LOG_FORMAT_KV, LEVEL_INFO, NULL);
    log_info("x", "oops a=%d", 1);
    assert_string_equal(after_time(logged()), "info x text=oops a=1\n");
}

static void a_line_that_is_too_long_is_cut_and_closed(void **state) {
    static char value[3 * LOG_LINE_MAX];
    memset(value, '"', sizeof value - 1);
    for (unsigned json = 0; json <= 1; json++) {
        open_log(json ? LOG_FORMAT_JSON : LOG_FORMAT_KV, LEVEL_INFO, NULL);
        log_info("x", "a=%s b=%d", value, 1);
        const char *line = logged(), *end = json ? "\\\"\",\"truncated\":true}\n" : "\\\"\" truncated=true\n";
        assert_true(strlen(line) <= LOG_LINE_MAX);
        assert_string_equal(line + strlen(line) - strlen(end), end);
    }
}

static void a_request_id_can_stand_in_any_line(void **state) {
    open_log(LOG_FORMAT_KV, LEVEL_INFO, NULL);
    request_id id = {.bytes = {0xab, 0xcd}};
    log_info("x", "request=%s", LOG_REQUEST(&id));
    assert_string_equal(after_time(logged()), "info x request=abcd0000000000000000000000000000\n");
}

static void a_loud_peer_is_counted_not_repeated(void **state) {
    struct log_limit limit = {0};
    open_log(LOG_FORMAT_KV, LEVEL_INFO, NULL);
    for (int i = 0; i < 1000; i++) log_limited(&limit, 60000, LEVEL_WARN, "garbage", "n=%d", i);
    assert_string_equal(after_time(logged()), "warn garbage n=0\n");
    limit.quiet_until = clock_ms(); // the period is over
    log_limited(&limit, 60000, LEVEL_WARN, "garbage", "n=%d", 7);
    assert_string_equal(after_time(logged()), "warn garbage n=7 suppressed=999\n");
}

enum { THREADS = 4, LINES = 200 };

static void *log_much(void *arg) {
    for (int i = 0; i < LINES; i++) log_info("thread", "text=%s", "0123456789012345678901234567890123456789");
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
    pthread_t threads[THREADS];
    char line[200];
    FILE *file = tmpfile();
    log_open(&(struct log_options){.fd = fileno(file), .level = LEVEL_INFO});
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, log_much, NULL);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    rewind(file);
    int n = 0;
    for (; fgets(line, sizeof line, file); n++)
        assert_string_equal(after_time(line), "info thread text=0123456789012345678901234567890123456789\n");
    assert_int_equal(n, THREADS * LINES);
    fclose(file);
}

static void times_are_written_in_utc(void **state) {
    char text[CLOCK_TEXT];
    clock_wall_text(1790000000123, text);
    assert_string_equal(text, "2026-09-21T14:13:20.123Z");
    clock_wall_text(-1, text);
    assert_string_equal(text, "0000-00-00T00:00:00.000Z");
    clock_wall_text(INT64_MAX, text);
    assert_string_equal(text, "0000-00-00T00:00:00.000Z");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_time_level_id_and_pairs),
        cmocka_unit_test(lines_below_the_level_are_dropped),
        cmocka_unit_test(no_value_can_forge_a_line_or_a_field),
        cmocka_unit_test(json_lines_hold_numbers_and_strings),
        cmocka_unit_test(every_conversion_is_understood),
        cmocka_unit_test(a_slip_in_the_format_is_shown_and_harms_nothing),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_closed),
        cmocka_unit_test(a_request_id_can_stand_in_any_line),
        cmocka_unit_test(a_loud_peer_is_counted_not_repeated),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
        cmocka_unit_test(times_are_written_in_utc),
    };
    if (pipe(pipe_ends) != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
