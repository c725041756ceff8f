// table, spsc, record_log and the error catalogue.
#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/base/record.h"
#include "common/base/spsc.h"
#include "common/base/table.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 5000, ITEMS = 200000 };

static bool same(const void *entry, const void *key) { return *(const uint32_t *)entry == *(const uint32_t *)key; }

static void a_table_finds_what_is_in_it_and_nothing_else(void **state) {
    static uint32_t keys[KEYS];
    static bool in[KEYS];
    struct table t = {0};
    uint64_t random = 1;
    for (uint32_t i = 0; i < KEYS; i++) keys[i] = i;
    for (uint32_t turn = 0; turn < 100000; turn++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        uint32_t i = (uint32_t)(random >> 33) % KEYS;
        uint64_t hash = hash_mix(i % 700); // many keys share a hash
        uint32_t *found = table_find(&t, hash, same, &i);
        assert_ptr_equal(found, in[i] ? &keys[i] : NULL);
        if (in[i])
            assert_true(table_remove(&t, hash, &keys[i]));
        else
            table_add(&t, hash, &keys[i]);
        in[i] = !in[i];
    }
    uint32_t count = 0, seen = 0;
    for (uint32_t i = 0; i < KEYS; i++) count += in[i];
    for (uint32_t at = 0; table_next(&t, &at) != NULL;) seen++;
    assert_int_equal(count, t.count);
    assert_int_equal(count, seen);
    uint32_t missing = KEYS;
    assert_false(table_remove(&t, hash_mix(3), &missing));
    table_free(&t);
}

static void *produce(void *arg) {
    for (uint64_t i = 0; i < ITEMS;)
        if (spsc_push(arg, &i)) i++;
    return NULL;
}

static void a_queue_between_two_threads_keeps_order_and_loses_nothing(void **state) {
    struct spsc q;
    pthread_t thread;
    spsc_init(&q, sizeof(uint64_t), 60);
    assert_int_equal(pthread_create(&thread, NULL, produce, &q), 0);
    for (uint64_t want = 0, got; want < ITEMS;)
        if (spsc_pop(&q, &got)) assert_int_equal(got, want++);
    pthread_join(thread, NULL);
    uint64_t item = 0;
    assert_false(spsc_pop(&q, &item));
    for (int i = 0; i < 64; i++) assert_true(spsc_push(&q, &item));
    assert_false(spsc_push(&q, &item));
    spsc_fini(&q);
}

static void a_record_log_gives_back_what_was_appended(void **state) {
    struct record_log *log = record_log_create();
    struct top_logprob tops[20];
    char text[100];
    for (uint32_t i = 0; i < 2000; i++) {
        memset(text, 'a' + (int)(i % 26), sizeof text);
        for (uint32_t t = 0; t < 20; t++) tops[t] = (struct top_logprob){.token = i + t, .logprob = -(float)t};
        struct record r = {.token = i,
                           .channel = (uint8_t)(i % 3),
                           .has_logprob = i % 2,
                           .logprob = -(float)i,
                           .text = text,
                           .text_len = i % 100,
                           .top = tops,
                           .n_top = i % 21};
        record_log_append(log, &r);
    }
    assert_int_equal(record_log_count(log), 2000);
    for (uint32_t i = 0; i < 2000; i++) {
        struct record r = record_log_get(log, i);
        assert_int_equal(r.token, i);
        assert_int_equal(r.channel, i % 3);
        assert_int_equal(r.text_len, i % 100);
        for (uint32_t k = 0; k < r.text_len; k++) assert_int_equal(r.text[k], 'a' + (int)(i % 26));
        assert_int_equal(r.n_top, i % 21);
        for (uint32_t t = 0; t < r.n_top; t++) assert_int_equal(r.top[t].token, i + t);
    }
    record_log_destroy(log);
}

static void every_error_has_a_status_a_name_and_a_sentence(void **state) {
    for (int id = 0; id < ERR_COUNT; id++) {
        const struct error_info *info = error_info((err_id)id);
        assert_true(strncmp(info->name, "ERR_", 4) == 0 && info->grpc[0] && info->sentence[0]);
        assert_true(info->http_status >= 200 && info->http_status < 600);
        assert_true(id == ERR_NONE || info->openai_type[0]);
    }
    assert_ptr_equal(error_info((err_id)12345), error_info(ERR_INTERNAL));
}

static void the_nearest_name_is_found_and_a_far_one_is_not(void **state) {
    static const char *const names[] = {"listen", "regions", "models"};
    assert_string_equal(error_nearest("lsiten", names, 3), "listen");
    assert_string_equal(error_nearest("region", names, 3), "regions");
    assert_null(error_nearest("zzzzzz", names, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_finds_what_is_in_it_and_nothing_else),
        cmocka_unit_test(a_queue_between_two_threads_keeps_order_and_loses_nothing),
        cmocka_unit_test(a_record_log_gives_back_what_was_appended),
        cmocka_unit_test(every_error_has_a_status_a_name_and_a_sentence),
        cmocka_unit_test(the_nearest_name_is_found_and_a_far_one_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
