// Ids of events: they come back as they were written, and nothing else is believed.
#include "router/front/stream_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct stream_keys keys_of(const char *text) {
    struct stream_keys k = {0};
    struct error e = {0};
    if (stream_keys_parse(text, &k, &e) != ERR_NONE) fail_msg("%s", e.text);
    return k;
}

#define KEY_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

static struct stream_id sample(void) {
    struct stream_id id = {.seed = UINT64_C(0xfedcba9876543210), .asks = 7, .takeover = 300, .created = 1790000000};
    memset(id.request.bytes, 0xa5, sizeof id.request.bytes);
    snprintf(id.fingerprint, sizeof id.fingerprint, "0123456789abcdef0123456789abcdef");
    snprintf(id.replica, sizeof id.replica, "north-w1");
    id.n = 1;
    id.at[0] = (struct stream_position){.offset = 12345, .phase = PHASE_TAIL, .hash = UINT64_C(0x1122334455667788)};
    return id;
}

static void an_id_comes_back_as_it_was_written(void **state) {
    struct stream_keys k = keys_of(KEY_A);
    const char *fingerprints[] = {"0123456789abcdef0123456789abcdef", "f", "", "0123456789ABCDEF0123456789abcdef"};
    for (size_t i = 0; i < 4; i++) {
        struct stream_id id = sample(), back;
        struct error e = {0};
        struct buf text = {0};
        snprintf(id.fingerprint, sizeof id.fingerprint, "%s", fingerprints[i]);
        stream_id_write(&id, &k, "shop", &text);
        assert_int_equal(strlen(text.data), text.len);
        assert_true(text.len < 160 &&
                    strspn(text.data, "-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == text.len);
        assert_int_equal(stream_id_read(text.data, &k, "shop", &back, &e), ERR_NONE);
        assert_memory_equal(back.request.bytes, id.request.bytes, 16);
        assert_string_equal(back.fingerprint, id.fingerprint);
        assert_string_equal(back.replica, id.replica);
        assert_true(back.seed == id.seed && back.asks == id.asks && back.takeover == id.takeover);
        assert_true(back.created == id.created && back.n == 1 && back.at[0].phase == id.at[0].phase);
        assert_true(stream_position_equal(&back.at[0], &id.at[0]));
        buf_free(&text);
    }
}

static void an_id_of_many_choices_says_where_each_stands(void **state) {
    struct stream_keys k = keys_of(KEY_A);
    for (uint32_t n = 2; n <= CHOICES_MAX; n++) {
        struct stream_id id = sample(), back;
        struct error e = {0};
        struct buf text = {0};
        id.n = n;
        for (uint32_t i = 0; i < n; i++)
            id.at[i] = (struct stream_position){.offset = OUTPUT_TOKENS_MAX - i, .phase = i % 4, .hash = ~(uint64_t)i};
        stream_id_write(&id, &k, "shop", &text);
        assert_int_equal(stream_id_read(text.data, &k, "shop", &back, &e), ERR_NONE);
        assert_int_equal(back.n, n);
        assert_string_equal(back.replica, id.replica);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(back.at[i].phase, id.at[i].phase);
            assert_true(stream_position_equal(&back.at[i], &id.at[i]));
        }
        buf_free(&text);
    }
}

static void one_changed_character_anywhere_is_refused(void **state) {
    struct stream_keys k = keys_of(KEY_A);
    struct stream_id id = sample(), back;
    struct buf text = {0};
    stream_id_write(&id, &k, "", &text);
    for (size_t i = 0; i < text.len; i++) {
        struct error e = {0};
        char old = text.data[i];
        text.data[i] = old == 'A' ? 'B' : 'A';
        assert_int_not_equal(stream_id_read(text.data, &k, "", &back, &e), ERR_NONE);
        text.data[i] = old;
    }
    for (size_t len = 0; len < text.len; len++) { // and one cut short
        struct error e = {0};
        char old = text.data[len];
        text.data[len] = '\0';
        assert_int_not_equal(stream_id_read(text.data, &k, "", &back, &e), ERR_NONE);
        text.data[len] = old;
    }
    buf_free(&text);
}

static void garbage_is_refused_with_a_sentence(void **state) {
    struct stream_keys k = keys_of(KEY_A);
    struct stream_id back;
    char long_one[2000];
    memset(long_one, 'A', sizeof long_one);
    long_one[sizeof long_one - 1] = '\0';
    const char *texts[] = {"", "0", "not base64!", "AQ", long_one, "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct error e = {0};
        assert_int_not_equal(stream_id_read(texts[i], &k, "", &back, &e), ERR_NONE);
        assert_string_equal(e.param, "Last-Event-ID");
        assert_true(strlen(e.text) > 20);
    }
}

static void another_tenants_id_is_refused(void **state) {
    struct stream_keys k = keys_of(KEY_A);
    struct stream_id id = sample(), back;
    struct error e = {0};
    struct buf text = {0};
    stream_id_write(&id, &k, "shop", &text);
    assert_int_equal(stream_id_read(text.data, &k, "bank", &back, &e), ERR_FORBIDDEN);
    assert_int_equal(stream_id_read(text.data, &k, "", &back, &e), ERR_FORBIDDEN);
    assert_int_equal(stream_id_read(text.data, &k, "shop", &back, &e), ERR_NONE);
    buf_free(&text);
}

static void keys_are_changed_without_breaking_streams(void **state) {
    struct stream_keys old = keys_of(KEY_A), both = keys_of("# new one second\n" KEY_A "\n\n" KEY_B "\n"),
                       swapped = keys_of(KEY_B "\r\n" KEY_A), new = keys_of(KEY_B);
    struct stream_id id = sample(), back;
    struct error e = {0};
    struct buf a = {0}, b = {0};
    stream_id_write(&id, &both, "", &a); // signed by the first
    stream_id_write(&id, &swapped, "", &b);
    assert_int_equal(stream_id_read(a.data, &old, "", &back, &e), ERR_NONE);
    assert_int_equal(stream_id_read(a.data, &swapped, "", &back, &e), ERR_NONE);
    assert_int_equal(stream_id_read(b.data, &both, "", &back, &e), ERR_NONE);
    assert_int_equal(stream_id_read(b.data, &new, "", &back, &e), ERR_NONE);
    assert_int_equal(stream_id_read(a.data, &new, "", &back, &e), ERR_FORBIDDEN);
    assert_int_equal(stream_id_read(b.data, &old, "", &back, &e), ERR_FORBIDDEN);
    buf_free(&a), buf_free(&b);
}

static void a_file_of_something_else_is_refused(void **state) {
    const char *texts[] = {"", "# nothing\n", "1234\n", KEY_A "00\n", KEY_A "\n" KEY_B "\n" KEY_A "\n", "zz" KEY_A "\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct stream_keys k = {0};
        struct error e = {0};
        assert_int_equal(stream_keys_parse(texts[i], &k, &e), ERR_CONFIG);
        assert_int_equal(k.n, 0);
    }
}

static void a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(void **state) {
    char path[] = "/tmp/shoal-keys-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, KEY_A "\n", 65) == 65);
    struct cluster_config config = {0};
    snprintf(config.security.stream_keys, sizeof config.security.stream_keys, "%s", path);
    struct stream_keys k;
    struct error e = {0};
    assert_int_equal(stream_keys_init(&k, &config, "127.0.0.1:80", &e), ERR_NONE);
    assert_int_equal(k.keys[0][1], 0x11);
    assert_true(write(fd, KEY_B "\n", 65) == 65);
    stream_keys_refresh(&k, 10000);
    assert_int_equal(k.n, 2);
    assert_true(write(fd, "junk\n", 5) == 5);
    stream_keys_refresh(&k, 20000);
    assert_int_equal(k.n, 2);
    close(fd);
    unlink(path);
    stream_keys_refresh(&k, 30000);
    assert_int_equal(k.n, 2);
    assert_int_equal(stream_keys_init(&k, &config, "127.0.0.1:80", &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, path));
}

static void without_a_file_only_routers_on_loopback_without_api_keys_understand_each_other(void **state) {
    struct cluster_config config = {.cluster = "c"};
    struct stream_keys a, b, c;
    struct error e = {0};
    stream_keys_init(&a, &config, "127.0.0.1:8080", &e), stream_keys_init(&b, &config, "[::1]:0", &e);
    assert_memory_equal(a.keys[0], b.keys[0], STREAM_KEY_BYTES);
    stream_keys_init(&c, &config, "0.0.0.0:8080", &e);
    assert_memory_not_equal(a.keys[0], c.keys[0], STREAM_KEY_BYTES);
    stream_keys_init(&b, &config, "0.0.0.0:8080", &e);
    assert_memory_not_equal(b.keys[0], c.keys[0], STREAM_KEY_BYTES);
    snprintf(config.security.api_keys, sizeof config.security.api_keys, "keys");
    stream_keys_init(&b, &config, "127.0.0.1:8080", &e);
    assert_memory_not_equal(a.keys[0], b.keys[0], STREAM_KEY_BYTES);
}

static void a_key_names_one_request_of_one_tenant(void **state) {
    request_id a = stream_id_of_key("c", "shop", "k"), b = stream_id_of_key("c", "shop", "k");
    request_id c = stream_id_of_key("c", "bank", "k"), d = stream_id_of_key("c", "shop", "k2");
    request_id f = stream_id_of_key("c", "sho", "pk");
    assert_true(request_id_equal(&a, &b) && !request_id_equal(&a, &c) && !request_id_equal(&a, &d));
    assert_false(request_id_equal(&a, &f));
    assert_true(stream_id_seed(&a) == stream_id_seed(&b) && stream_id_seed(&a) != stream_id_seed(&d));
}

static void the_hash_tells_tokens_channels_and_texts_apart(void **state) {
    struct record r[] = {{.token = 1, .text = "ab", .text_len = 2},
                         {.token = 2, .text = "ab", .text_len = 2},
                         {.token = 1, .text = "ab", .text_len = 1},
                         {.token = 1, .channel = 1, .text = "ab", .text_len = 2}};
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 4; k++) {
            struct stream_position a = {0}, b = {0};
            stream_position_record(&a, &r[i]), stream_position_record(&b, &r[k]);
            assert_int_equal(stream_position_equal(&a, &b), i == k);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_comes_back_as_it_was_written),
        cmocka_unit_test(an_id_of_many_choices_says_where_each_stands),
        cmocka_unit_test(one_changed_character_anywhere_is_refused),
        cmocka_unit_test(garbage_is_refused_with_a_sentence),
        cmocka_unit_test(another_tenants_id_is_refused),
        cmocka_unit_test(keys_are_changed_without_breaking_streams),
        cmocka_unit_test(a_file_of_something_else_is_refused),
        cmocka_unit_test(a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing),
        cmocka_unit_test(without_a_file_only_routers_on_loopback_without_api_keys_understand_each_other),
        cmocka_unit_test(a_key_names_one_request_of_one_tenant),
        cmocka_unit_test(the_hash_tells_tokens_channels_and_texts_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
