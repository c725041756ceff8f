// The load tool's pure parts: quantiles are numpy's, traces are read as they were published or refused with their line, and
// a workload is the same for the same seed, with the gaps of a Poisson process.
#include "client/bench/samples.h"
#include "client/bench/trace.h"
#include "client/bench/workload.h"

#include "common/base/check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void near(double got, double expected) {
    if (fabs(got - expected) > 1e-5 * (1 + fabs(expected))) fail_msg("%.9g, expected %.9g", got, expected);
}

static void quantiles_are_linear_between_neighbours(void **state) {
    struct samples s = {0};
    near(samples_quantile(&s, 0.5), 0);
    const double values[] = {9, 1, 4, 16, 25};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) samples_add(&s, values[i]);
    near(samples_quantile(&s, 0), 1); // numpy.quantile([9, 1, 4, 16, 25], q)
    near(samples_quantile(&s, 0.5), 9);
    near(samples_quantile(&s, 0.9), 21.4);
    near(samples_quantile(&s, 0.99), 24.64);
    near(samples_quantile(&s, 1), 25);
    near(samples_mean(&s), 11);
    samples_add(&s, 100); // behind a quantile
    near(samples_quantile(&s, 1), 100);
    near((double)s.max, 100);
    samples_free(&s);
}

static void more_samples_than_are_kept_still_give_their_quantiles(void **state) {
    struct samples s = {0};
    uint32_t n = SAMPLES_MAX * 2u;
    for (uint32_t i = 0; i < n; i++) samples_add(&s, (double)i / n);
    assert_int_equal(s.n, SAMPLES_MAX);
    assert_int_equal(s.seen, n);
    for (double q = 0.1; q < 1; q += 0.1)
        if (fabs(samples_quantile(&s, q) - q) > 0.002) fail_msg("quantile %.1f is %.5f", q, samples_quantile(&s, q));
    samples_free(&s);
}

static char path[64];

static void write_trace(const char *text) {
    snprintf(path, sizeof path, "trace_%d.txt", (int)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void both_published_forms_are_read(void **state) {
    struct trace t;
    struct error e;
    write_trace(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.5,374,44\r\n2023-11-16 18:16:00.2500000,0,7\r\n");
    assert_int_equal(trace_load(path, &t, &e), ERR_NONE);
    assert_int_equal(t.n, 2);
    near(t.requests[1].at_s, 13.75);
    assert_true(t.requests[0].prompt_tokens == 374 && t.requests[0].output_tokens == 44);
    assert_int_equal(t.requests[1].prompt_tokens, 1); // nothing can't be asked
    trace_free(&t);
    write_trace("{\"timestamp\": 500, \"input_length\": 1030, \"output_length\": 6, \"hash_ids\": [0, 1, 9]}\n\n"
                "{\"timestamp\": 2500, \"input_length\": 600, \"output_length\": 2, \"hash_ids\": [0, 7]}");
    assert_int_equal(trace_load(path, &t, &e), ERR_NONE);
    assert_int_equal(t.n, 2);
    near(t.requests[1].at_s, 2);
    assert_true(t.requests[1].n_blocks == 2 && t.blocks[t.requests[1].first_block + 1] == 7);
    trace_free(&t);
    unlink(path);
}

static void what_cant_be_read_is_named_with_its_line(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "holds no request"},
        {"TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"},
        {"2023-11-16 18:15:46,1\n", "line 1: expected TIMESTAMP"},
        {"2023-11-16 18:15:46,1,2\nyesterday,1,2\n", "line 2: the time"},
        {"2023-11-16 18:15:46,x,2\n", "line 1: ContextTokens"},
        {"2023-11-16 18:15:46,1,2x\n", "line 1: GeneratedTokens"},
        {"2023-11-16 18:15:46,1,-2\n", "line 1: a length"},
        {"2023-11-16 18:15:46,nan,2\n", "line 1: a length"},
        {"2023-11-16 18:15:46,1,1\n2023-11-16 18:15:45,1,1\n", "line 2: earlier"},
        {"{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1}\n{\"timestamp\": 1", "line 2: expected {"},
        {"{\"timestamp\": 0, \"input_length\": \"1\", \"output_length\": 1}", "line 1: expected {"},
        {"{\"timestamp\": 0, \"input_length\": 5e9, \"output_length\": 1}", "line 1: a length"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct trace t;
        struct error e = {0};
        write_trace(cases[i].text);
        assert_int_not_equal(trace_load(path, &t, &e), ERR_NONE);
        if (strstr(error_text(&e), cases[i].says) == NULL) fail_msg("'%s' says '%s'", cases[i].text, error_text(&e));
        assert_null(t.requests);
    }
    unlink(path);
    struct trace t;
    struct error e = {0};
    assert_int_equal(trace_load("/does/not/exist", &t, &e), ERR_SYSTEM);
}

static uint32_t words_in(const struct buf *b) {
    uint32_t n = b->len > 0;
    for (size_t i = 0; i < b->len; i++) n += b->data[i] == ' ';
    return n;
}

static void a_workload_is_a_function_of_its_seed(void **state) {
    struct workload_options o = {.seed = 5, .rate = 40, .prompt_tokens = {10, 30}, .output_tokens = {1, 4}};
    struct workload a, b, other;
    bool low = false, high = false, differs = false;
    workload_init(&a, &o), workload_init(&b, &o);
    o.seed = 6;
    workload_init(&other, &o);
    for (int i = 0; i < 500; i++) {
        struct workload_request x, y, z;
        struct buf p = {0}, q = {0}, r = {0};
        assert_true(workload_next(&a, &x, &p) && workload_next(&b, &y, &q) && workload_next(&other, &z, &r));
        assert_true(x.at_s == y.at_s && x.output_tokens == y.output_tokens);
        assert_string_equal(p.data, q.data);
        assert_in_range(x.prompt_words, 10, 30);
        assert_in_range(x.output_tokens, 1, 4);
        assert_int_equal(words_in(&p), x.prompt_words);
        low |= x.prompt_words == 10, high |= x.prompt_words == 30;
        differs |= strcmp(p.data, r.data) != 0;
        buf_free(&p), buf_free(&q), buf_free(&r);
    }
    assert_true(low && high && differs);
}

// Kolmogorov and Smirnov's distance to the exponential distribution: 1.95 / sqrt(n) is passed in one of 1000 cases, and the
// seed is fixed.
static void gaps_are_those_of_a_poisson_process(void **state) {
    enum { N = 20000 };
    struct workload_options o = {.seed = 1, .rate = 40, .prompt_tokens = {1, 1}, .output_tokens = {1, 1}};
    struct workload w;
    struct samples gaps = {0};
    double before = 0, distance = 0;
    workload_init(&w, &o);
    for (int i = 0; i < N; i++) {
        struct workload_request r;
        struct buf p = {0};
        workload_next(&w, &r, &p);
        if (i > 0) samples_add(&gaps, r.at_s - before);
        assert_true(r.at_s >= before);
        before = r.at_s;
        buf_free(&p);
    }
    assert_true(samples_quantile(&gaps, 0) >= 0); // sorts
    for (uint32_t i = 0; i < gaps.n; i++)
        distance = fmax(distance, fabs(1 - exp(-40 * (double)gaps.ms[i]) - (i + 0.5) / gaps.n));
    if (distance > 1.95 / sqrt(gaps.n)) fail_msg("the distance is %.5f", distance);
    samples_free(&gaps);
}

static void beginnings_are_shared_as_asked(void **state) {
    struct workload_options o = {
        .seed = 3, .prompt_tokens = {50, 50}, .output_tokens = {1, 1}, .prefix_tokens = 40, .prefixes = 2};
    struct workload w;
    struct buf p[20] = {0};
    workload_init(&w, &o);
    uint32_t same = 0, whole = 0;
    for (int i = 0; i < 20; i++) {
        struct workload_request r;
        workload_next(&w, &r, &p[i]);
        for (int k = 0; k < i; k++) {
            same += strncmp(p[i].data, p[k].data, 100) == 0;
            whole += strcmp(p[i].data, p[k].data) == 0;
        }
    }
    assert_true(same >= 90); // 20 in two classes: 90 pairs at least
    assert_true(same < 190);
    assert_int_equal(whole, 0);
    for (int i = 0; i < 20; i++) buf_free(&p[i]);
}

static void equal_blocks_of_a_trace_are_equal_words(void **state) {
    uint64_t blocks[] = {1, 2, 1, 3};
    struct trace_request requests[] = {{0, 1000, 1, 0, 2}, {4, 1200, 1, 2, 2}};
    struct trace t = {requests, 2, blocks, 4};
    struct workload_options o = {.trace = &t, .speed = 2};
    struct workload w;
    struct workload_request a, b, none;
    struct buf p = {0}, q = {0};
    workload_init(&w, &o);
    assert_true(workload_next(&w, &a, &p) && workload_next(&w, &b, &q) && !workload_next(&w, &none, &p));
    near(b.at_s, 2);
    assert_int_equal(words_in(&p), 1000);
    assert_int_equal(words_in(&q), 1200);
    size_t same = 0, spaces = 0;
    while (p.data[same] == q.data[same]) spaces += p.data[same++] == ' ';
    assert_in_range(spaces, TRACE_BLOCK_TOKENS, TRACE_BLOCK_TOKENS + 4);
    buf_free(&p), buf_free(&q);
}

static void ranges_are_a_number_or_two(void **state) {
    static const char *const wrong[] = {"", "x", "-5", "5-", "5-x", "0", "9-5", "5-6-7", "5 ", "99999999"};
    struct workload_range r;
    assert_true(workload_range_parse("128", &r) && r.low == 128 && r.high == 128);
    assert_true(workload_range_parse("64-512", &r) && r.low == 64 && r.high == 512);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (workload_range_parse(wrong[i], &r)) fail_msg("'%s' is taken", wrong[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_linear_between_neighbours),
        cmocka_unit_test(more_samples_than_are_kept_still_give_their_quantiles),
        cmocka_unit_test(both_published_forms_are_read),
        cmocka_unit_test(what_cant_be_read_is_named_with_its_line),
        cmocka_unit_test(a_workload_is_a_function_of_its_seed),
        cmocka_unit_test(gaps_are_those_of_a_poisson_process),
        cmocka_unit_test(beginnings_are_shared_as_asked),
        cmocka_unit_test(equal_blocks_of_a_trace_are_equal_words),
        cmocka_unit_test(ranges_are_a_number_or_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
