// Events cut into whole ones, however their bytes arrive.
#include "client/proxy/sse_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const char stream[] = ": hello\n"
                             "data: {\"a\":1}\nid: one\n\n"
                             ": keep-alive\n"
                             "id:two\r\ndata: line\r\ndata: another\r\n\r\n"
                             "data: no id\n\n"
                             "data: [DONE]\n\n";

static void whole_events_are_handed_on_whatever_the_pieces(void **state) {
    for (size_t piece = 1; piece < sizeof stream; piece++) {
        struct sse_reader r = {0};
        struct buf out = {0};
        struct error e = {0};
        for (size_t at = 0; at < sizeof stream - 1; at += piece) {
            size_t n = at + piece < sizeof stream ? piece : sizeof stream - 1 - at;
            assert_int_equal(sse_reader_take(&r, stream + at, n, &out, &e), ERR_NONE);
            if (out.len) assert_true(memcmp(out.data, stream, out.len) == 0 && out.data[out.len - 1] == '\n');
        }
        assert_string_equal(out.data, stream);
        assert_string_equal(r.id, "two");
        assert_true(r.done && r.any && !r.failed);
        buf_free(&out);
        sse_reader_fini(&r);
    }
}

static void what_is_torn_is_never_handed_on_and_its_id_does_not_count(void **state) {
    for (size_t cut = 0; cut < sizeof stream - 1; cut++) {
        struct sse_reader r = {0};
        struct buf out = {0};
        struct error e = {0};
        sse_reader_take(&r, stream, cut, &out, &e);
        size_t before = out.len;
        bool one = strstr(out.data ? out.data : "", "one\n\n") != NULL,
             two = strstr(out.data ? out.data : "", "another") != NULL;
        assert_string_equal(r.id, two ? "two" : one ? "one" : "");
        assert_int_equal(r.done, cut == sizeof stream - 1);
        sse_reader_restart(&r);
        sse_reader_take(&r, "data: next\n\n", 12, &out, &e);
        assert_string_equal(out.data + before, "data: next\n\n");
        buf_free(&out);
        sse_reader_fini(&r);
    }
}

static void an_error_is_noticed_and_an_endless_event_is_refused(void **state) {
    struct sse_reader r = {0};
    struct buf out = {0};
    struct error e = {0};
    const char *failed = "data: {\"error\":{\"message\":\"x\"}}\n\n";
    assert_int_equal(sse_reader_take(&r, failed, strlen(failed), &out, &e), ERR_NONE);
    assert_true(r.failed && !r.done);
    static char much[1 << 20];
    memset(much, 'x', sizeof much);
    err_id id = ERR_NONE;
    for (int i = 0; i < 20 && id == ERR_NONE; i++) id = sse_reader_take(&r, much, sizeof much, &out, &e);
    assert_int_equal(id, ERR_TOO_LARGE);
    buf_free(&out);
    sse_reader_fini(&r);
}

static void an_id_that_is_too_long_is_cut_and_an_empty_one_changes_nothing(void **state) {
    struct sse_reader r = {0};
    struct buf out = {0}, in = {0};
    struct error e = {0};
    buf_str(&in, "id: good\ndata: 1\n\nid:\ndata: 2\n\n");
    assert_int_equal(sse_reader_take(&r, in.data, in.len, &out, &e), ERR_NONE);
    assert_string_equal(r.id, "good");
    buf_reset(&in);
    buf_str(&in, "id: ");
    for (int i = 0; i < 2000; i++) buf_char(&in, 'i');
    buf_str(&in, "\n\n");
    assert_int_equal(sse_reader_take(&r, in.data, in.len, &out, &e), ERR_NONE);
    assert_int_equal(strlen(r.id), SSE_ID_SIZE - 1);
    buf_free(&out), buf_free(&in);
    sse_reader_fini(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_events_are_handed_on_whatever_the_pieces),
        cmocka_unit_test(what_is_torn_is_never_handed_on_and_its_id_does_not_count),
        cmocka_unit_test(an_error_is_noticed_and_an_endless_event_is_refused),
        cmocka_unit_test(an_id_that_is_too_long_is_cut_and_an_empty_one_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
