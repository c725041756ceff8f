#include "common/sys/flags.h"

#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct values {
    const char *region, *device;
    struct flag_list listen;
    uint32_t threads, wait_ms;
    uint64_t memory;
    double rate;
    bool quiet;
};

static const char *const devices[] = {"cpu", "cuda", "mock", NULL};

// Reads a command line, given as one text with single blanks; *n as flags_read gives it.
static err_id read_line(const char *line, struct values *v, int *n, struct error *e, bool operands) {
    static char copy[500];
    static char *argv[40];
    int argc = 0;
    *v = (struct values){.device = "cpu", .threads = 2, .wait_ms = 2000, .rate = 1};
    const struct flag flags[] = {
        {"region", FLAG_STRING, &v->region, "NAME", "the region this process runs in", .required = true},
        {"device", FLAG_STRING, &v->device, "KIND", "what computes", .words = devices},
        {"listen", FLAG_LIST, &v->listen, "ADDRESS", .help = "where to listen"},
        {"threads", FLAG_U32, &v->threads, "N", "threads", .min = 1, .max = 64},
        {"wait", FLAG_DURATION, &v->wait_ms, "TIME", "how long to wait", .max = 60000},
        {"memory", FLAG_SIZE, &v->memory, "SIZE", .help = "memory"},
        {"rate", FLAG_DOUBLE, &v->rate, "X", "rate", .max = 10},
        {"quiet", FLAG_BOOL, &v->quiet, NULL, .help = "say less"},
    };
    const struct flag_spec spec = {.program = "shoal-worker",
                                   .summary = "serves a model",
                                   .operands = operands ? "[FILE]..." : NULL,
                                   .examples = "  shoal-worker --region a\n",
                                   .flags = flags,
                                   .n_flags = sizeof flags / sizeof *flags};
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    if (n && *n < 0) {
        struct buf help = {0};
        flags_help(&spec, &help);
        assert_non_null(strstr(help.data, "Usage: shoal-worker [flags] [FILE]...\n"));
        assert_non_null(strstr(help.data, "  --region NAME             the region this process runs in (required)\n"));
        assert_non_null(strstr(help.data, "  --device KIND             what computes: cpu, cuda, mock (default cpu)\n"));
        assert_non_null(strstr(help.data, "  --wait TIME               how long to wait (default 2s)\n"));
        assert_non_null(strstr(help.data, "\nExamples:\n  shoal-worker --region a\n"));
        buf_free(&help);
        return ERR_NONE;
    }
    err_id id = flags_read(&spec, argc, argv, n, e);
    if (id == ERR_NONE && n && *n == 2) assert_string_equal(argv[1], "two");
    return id;
}

static void every_kind_of_flag_is_read(void **state) {
    struct values v;
    struct error e = {0};
    int n = 0;
    err_id id = read_line(
        "p one --region=eu --device mock --listen :1 --listen=:2 --threads 64 --wait 1.5s --memory 8MB --rate 0.25 "
        "--quiet two",
        &v, &n, &e, true);
    if (id != ERR_NONE) fail_msg("%s", error_text(&e));
    assert_int_equal(n, 2);
    assert_string_equal(v.region, "eu");
    assert_string_equal(v.device, "mock");
    assert_int_equal(v.listen.n, 2);
    assert_string_equal(v.listen.values[1], ":2");
    assert_int_equal(v.threads, 64);
    assert_int_equal(v.wait_ms, 1500);
    assert_int_equal(v.memory, 8 << 20);
    assert_true(v.rate == 0.25 && v.quiet);
}

static void two_dashes_end_the_flags(void **state) {
    struct values v;
    int n = 0;
    assert_int_equal(read_line("p --region=eu --quiet=false -- --threads", &v, &n, NULL, true), ERR_NONE);
    assert_int_equal(n, 1);
    assert_int_equal(v.threads, 2);
    assert_false(v.quiet);
}

static void every_mistake_is_one_sentence(void **state) {
    static const struct {
        const char *line, *sentence;
    } bad[] = {
        {"p --regoin x", "unknown flag --regoin; did you mean --region?"},
        {"p --zzzzzzzz x", "unknown flag --zzzzzzzz; shoal-worker --help lists all flags"},
        {"p -r x", "unknown flag -r; flags are written --name"},
        {"p --region", "--region expects a value: --region NAME"},
        {"p --quiet", "--region NAME is required: the region this process runs in"},
        {"p --region a --region b", "--region is given twice"},
        {"p --region a --device gpu", "--device expects cpu, cuda or mock, not \"gpu\""},
        {"p --region a --threads 0", "--threads must lie between 1 and 64, not 0"},
        {"p --region a --threads 65", "--threads must lie between 1 and 64, not 65"},
        {"p --region a --threads x", "--threads expects a whole number, not \"x\""},
        {"p --region a --wait 5", "--wait expects a duration such as 300ms or 2s, not \"5\""},
        {"p --region a --wait 2m", "--wait must lie between 0ms and 1m, not 2m"},
        {"p --region a --memory 4M", "--memory expects a size such as 64KB or 8MB, not \"4M\""},
        {"p --region a --rate 11", "--rate must lie between 0 and 10"},
        {"p --region a --rate nan", "--rate expects a number, not \"nan\""},
        {"p --region a --quiet=maybe", "--quiet expects true or false, not \"maybe\""},
        {"p --region a extra", "unexpected argument \"extra\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct values v;
        struct error e = {0};
        assert_int_equal(read_line(bad[i].line, &v, NULL, &e, false), ERR_INVALID_ARGUMENT);
        assert_string_equal(error_text(&e), bad[i].sentence);
    }
}

static void help_is_made_from_the_table(void **state) {
    struct values v;
    int n = -1;
    assert_int_equal(read_line("p", &v, &n, NULL, true), ERR_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_flag_is_read),
        cmocka_unit_test(two_dashes_end_the_flags),
        cmocka_unit_test(every_mistake_is_one_sentence),
        cmocka_unit_test(help_is_made_from_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
