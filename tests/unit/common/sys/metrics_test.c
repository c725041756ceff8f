#include "common/sys/metrics.h"

#include "common/base/buf.h"
#include "common/sys/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>

static void expect_line(struct metrics *m, const char *text, bool there) {
    struct buf out = {0};
    metrics_write(m, &out);
    if ((strstr(out.data, text) != NULL) != there) fail_msg("%s \"%s\" in:\n%s", there ? "no" : "unwanted", text, out.data);
    buf_free(&out);
}

static void each_kind_is_written_as_prometheus_reads_it(void **state) {
    static const double buckets[] = {0.1, 1, 10};
    struct metrics *m = metrics_create();
    struct metric *c = metrics_add(m, &(struct metric_spec){.name = "shoal_x_total", .help = "Xs.", .kind = METRIC_COUNTER});
    struct metric *g =
        metrics_add(m, &(struct metric_spec){.name = "shoal_y", .help = "Ys.", .kind = METRIC_GAUGE, .labels = {"a", "b"}});
    struct metric *h = metrics_add(m, &(struct metric_spec){.name = "shoal_z_seconds",
                                                            .help = "Zs.",
                                                            .kind = METRIC_HISTOGRAM,
                                                            .labels = {"a"},
                                                            .buckets = buckets,
                                                            .n_buckets = 3});
    series_add(metric_series(c, NULL), 3);
    series_set(METRIC_SERIES(g, "1", "q\"b\\s\nn"), 1.5);
    series_shift(METRIC_SERIES(g, "1", "q\"b\\s\nn"), -2);
    struct series *s = METRIC_SERIES(h, "v");
    static const double seen[] = {0.05, 0.1, 0.5, 100};
    for (size_t i = 0; i < 4; i++) series_observe(s, seen[i]);
    expect_line(m, "# HELP shoal_x_total Xs.\n# TYPE shoal_x_total counter\nshoal_x_total 3\n", true);
    expect_line(m, "# TYPE shoal_y gauge\nshoal_y{a=\"1\",b=\"q\\\"b\\\\s\\nn\"} -0.5\n", true);
    expect_line(m,
                "# TYPE shoal_z_seconds histogram\nshoal_z_seconds_bucket{a=\"v\",le=\"0.1\"} "
                "2\nshoal_z_seconds_bucket{a=\"v\",le=\"1\"} "
                "3\nshoal_z_seconds_bucket{a=\"v\",le=\"10\"} 3\nshoal_z_seconds_bucket{a=\"v\",le=\"+Inf\"} "
                "4\nshoal_z_seconds_sum{a=\"v\"} "
                "100.65\nshoal_z_seconds_count{a=\"v\"} 4\n",
                true);
    assert_int_equal(series_count(s), 4);
    metrics_destroy(&m);
    assert_null(m);
}

static void the_build_is_named(void **state) {
    struct metrics *m = metrics_create();
    char line[300];
    snprintf(line, sizeof line, "shoal_build_info{version=\"%s\",compiler=\"%s\"} 1\n", shoal_version(), shoal_compiler());
    expect_line(m, line, true);
    metrics_destroy(&m);
}

static void a_counter_of_small_units_is_written_in_large_ones(void **state) {
    struct metrics *m = metrics_create();
    struct metric *c =
        metrics_add(m, &(struct metric_spec){.name = "shoal_busy_seconds_total", .help = "Busy.", .scale = 1e-9});
    series_add(metric_series(c, NULL), 1500000000);
    expect_line(m, "shoal_busy_seconds_total 1.5\n", true);
    metrics_destroy(&m);
}

static void past_the_bound_all_labels_are_other(void **state) {
    struct metrics *m = metrics_create();
    struct metric *c =
        metrics_add(m, &(struct metric_spec){.name = "shoal_by_total", .help = "By.", .labels = {"who"}, .series_max = 3});
    for (int i = 0; i < 1000; i++) {
        char name[20];
        snprintf(name, sizeof name, "w%d", i);
        series_add(METRIC_SERIES(c, name), 1);
    }
    expect_line(m, "shoal_by_total{who=\"w2\"} 1\n", true);
    expect_line(m, "{who=\"w3\"}", false);
    expect_line(m, "shoal_by_total{who=\"other\"} 997\n", true);
    metric_forget(c, (const char *const[]){"w1"}); // makes room for a new one
    metric_forget(c, (const char *const[]){"nobody"});
    metric_forget(c, (const char *const[]){"other"});
    expect_line(m, "{who=\"w1\"}", false);
    expect_line(m, "shoal_by_total{who=\"other\"} 997\n", true);
    metrics_destroy(&m);
}

static void label_values_of_peers_are_made_harmless(void **state) {
    char longer[300];
    struct metrics *m = metrics_create();
    struct metric *c = metrics_add(m, &(struct metric_spec){.name = "shoal_l_total", .help = "L.", .labels = {"v"}});
    series_add(METRIC_SERIES(c, "bad\xff"), 1);
    memset(longer, 'x', sizeof longer);
    memcpy(longer + 126, "\xc3\xa4", 3); // a character across the limit goes as a whole
    series_add(METRIC_SERIES(c, longer), 2);
    expect_line(m, "shoal_l_total{v=\"bad?\"} 1\n", true);
    memcpy(longer + 126, "\"} 2\n", 6);
    expect_line(m, longer, true);
    metrics_destroy(&m);
}

static void *count(void *arg) {
    for (int i = 0; i < 100000; i++)
        series_add(((struct series **)arg)[0], 1), series_observe(((struct series **)arg)[1], 1);
    return NULL;
}

static void several_threads_may_count(void **state) {
    struct metrics *m = metrics_create();
    pthread_t threads[2];
    struct metric *c = metrics_add(m, &(struct metric_spec){.name = "shoal_t_total", .help = "T."});
    struct metric *h = metrics_add(
        m, &(struct metric_spec){
               .name = "shoal_h", .help = "H.", .kind = METRIC_HISTOGRAM, .buckets = METRIC_SECONDS, .n_buckets = 15});
    struct series *s[] = {metric_series(c, NULL), metric_series(h, NULL)};
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, count, s);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(series_count(s[0]), 200000);
    assert_int_equal(series_count(s[1]), 200000);
    assert_true(series_value(s[1]) == 200000);
    metrics_destroy(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_written_as_prometheus_reads_it),
        cmocka_unit_test(the_build_is_named),
        cmocka_unit_test(a_counter_of_small_units_is_written_in_large_ones),
        cmocka_unit_test(past_the_bound_all_labels_are_other),
        cmocka_unit_test(label_values_of_peers_are_made_harmless),
        cmocka_unit_test(several_threads_may_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
