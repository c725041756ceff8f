#include "common/sys/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void addresses_are_understood(void **state) {
    static const struct {
        const char *text, *host, *config, *zmq;
        bool loopback;
    } good[] = {
        {"127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080", "tcp://127.0.0.1:8080", true},
        {"tcp://127.9.0.1:0", "127.9.0.1", "127.9.0.1:0", "tcp://127.9.0.1:0", true},
        {"localhost:80", "127.0.0.1", "127.0.0.1:80", "tcp://127.0.0.1:80", true},
        {"[::1]:7700", "::1", "[::1]:7700", "tcp://[::1]:7700", true},
        {":7700", "", ":7700", "tcp://*:7700", false},
        {"*:7700", "", ":7700", "tcp://*:7700", false},
        {"10.0.0.1:65535", "10.0.0.1", "10.0.0.1:65535", "tcp://10.0.0.1:65535", false},
        {"[2001:db8::1]:1", "2001:db8::1", "[2001:db8::1]:1", "tcp://[2001:db8::1]:1", false},
        {"[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:1", "tcp://[::ffff:127.0.0.1]:1", false},
        {"routers.shoal.internal:7700", "routers.shoal.internal", "routers.shoal.internal:7700",
         "tcp://routers.shoal.internal:7700", false},
        {"127.0.0.1.evil.com:80", "127.0.0.1.evil.com", "127.0.0.1.evil.com:80", "tcp://127.0.0.1.evil.com:80", false},
        {"unix:/run/a.sock", "/run/a.sock", "unix:/run/a.sock", "ipc:///run/a.sock", true},
        {"ipc:///run/a.sock", "/run/a.sock", "unix:/run/a.sock", "ipc:///run/a.sock", true},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct endpoint p;
        struct error e = {0};
        char text[ADDRESS_SIZE + 16];
        if (endpoint_parse(good[i].text, &p, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
        assert_string_equal(p.host, good[i].host);
        assert_int_equal(p.loopback, good[i].loopback);
        endpoint_text(&p, text);
        assert_string_equal(text, good[i].config);
        endpoint_zmq_text(&p, text);
        assert_string_equal(text, good[i].zmq);
    }
}

static void what_is_no_address_is_refused_with_a_sentence(void **state) {
    static const char *const bad[] = {
        "",       "8080",   "host",        "host:", ":65536",   ":-1",       "::1:80",  "[::1]",  "[::1]80", "[1.2.3.4]:1",
        "a b:80", "a/b:80", "http://a:80", "unix:", "unix:rel", "ipc://rel", "[::1:80", "tcp://", "tcp://:", "a:80x"};
    struct endpoint p;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error e = {0};
        if (endpoint_parse(bad[i], &p, &e) != ERR_INVALID_ARGUMENT) fail_msg("\"%s\" was accepted", bad[i]);
        assert_non_null(strstr(error_text(&e), bad[i]));
    }
    char longer[400] = "unix:/";
    memset(longer + 6, 'x', 300);
    assert_int_equal(endpoint_parse(longer, &p, NULL), ERR_INVALID_ARGUMENT);
    memcpy(longer, "xxxxxx", 6);
    strcpy(longer + 306, ":80");
    assert_int_equal(endpoint_parse(longer, &p, NULL), ERR_INVALID_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_understood),
        cmocka_unit_test(what_is_no_address_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
