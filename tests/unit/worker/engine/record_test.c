// A recording holds what an engine was told: replayed by hand here, frame by frame, and read back when it is damaged.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/worker/engine/driver.h"
#include "worker/engine/mock/mock.h"
#include "worker/engine/record.h"

static const char path[] = "/tmp/shoal-record-test";

// Records a prompt and three tokens on a mock, one of them masked.
static void record(void) {
    struct engine_opts o = {.slots = 2, .rows = 2, .batch_tokens = 16, .context = 64, .block_tokens = 8, .kv_bytes = 4096};
    struct driver d;
    struct error e = {0};
    uint32_t p[] = {1, 2, 3, 4, 5}, mask[16] = {0};
    mask[3] = 1u << 5; // token 101
    unlink(path);
    driver_init(&d, &mock_backend, &o);
    assert_int_equal(record_wrap(&d.engine, &o, path, &e), ERR_NONE);
    driver_open(&d, 1, NULL, p, 5, 5);
    driver_row(&d, 1, p, 5, PLAN_LOGITS_LAST);
    driver_run(&d);
    driver_row(&d, 1, NULL, 1, PLAN_LOGITS_LAST);
    uint64_t step = driver_submit(&d);
    assert_int_equal(d.engine->ops->sample(d.engine, step, (const uint32_t *[]){mask}, NULL, &e), ENGINE_OK);
    assert_int_equal(driver_result(&d, step).rows[0].tokens[0].token, 101);
    driver_close(&d, 1);
    driver_fini(&d);
}

static void every_call_is_a_frame_in_its_order(void **state) {
    static const uint32_t kinds[] = {RECORD_OPEN, RECORD_PLAN,   RECORD_SAMPLE, RECORD_RESULT,
                                     RECORD_PLAN, RECORD_SAMPLE, RECORD_RESULT, RECORD_CLOSE};
    struct record_reader *r;
    const struct record_head *h;
    const struct record_frame *f;
    const void *payload;
    struct error e = {0};
    record();
    assert_int_equal(record_reader_open(path, &r, &h, &e), ERR_NONE);
    assert_string_equal(h->device, "mock");
    assert_int_equal(h->slots, 2);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        assert_int_equal(record_reader_next(r, &f, &payload, &e), ERR_NONE);
        assert_int_equal(f->kind, kinds[i]);
        if (i == 0) assert_memory_equal((const struct record_open *)payload + 1, ((uint32_t[]){1, 2, 3, 4, 5}), 20);
        if (i == 5) {
            const uint32_t *words = (const uint32_t *)((const struct record_sample *)payload + 1);
            assert_int_equal(words[1], 1);           // the row has a mask
            assert_int_equal(words[2 + 3], 1u << 5); // which allows token 101
        }
        if (i == 6) assert_int_equal(((const struct record_row *)((const struct record_result *)payload + 1))->token, 101);
    }
    assert_int_equal(record_reader_next(r, &f, &payload, &e), ERR_NONE);
    assert_null(f);
    record_reader_close(&r);
}

static void a_recording_is_never_overwritten(void **state) {
    struct engine_opts o = {.slots = 2, .rows = 2, .batch_tokens = 16, .context = 64};
    struct driver d;
    struct error e = {0};
    record();
    driver_init(&d, &mock_backend, &o);
    struct engine *before = d.engine;
    assert_int_equal(record_wrap(&d.engine, &o, path, &e), ERR_SYSTEM);
    assert_ptr_equal(d.engine, before);
    driver_fini(&d);
}

static void a_cut_or_foreign_file_is_refused(void **state) {
    struct record_reader *r = NULL;
    const struct record_head *h;
    const struct record_frame *f;
    const void *payload;
    struct error e = {0};
    record();
    FILE *file = fopen(path, "r");
    static char bytes[1 << 16];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    for (size_t n = 0; n < size; n += 13) {
        assert_int_equal(truncate(path, 0), 0);
        file = fopen(path, "w");
        fwrite(bytes, 1, n, file);
        fclose(file);
        if (record_reader_open(path, &r, &h, &e) != ERR_NONE) continue;
        do {
            if (record_reader_next(r, &f, &payload, &e) != ERR_NONE) break;
        } while (f != NULL);
        record_reader_close(&r);
    }
    file = fopen(path, "w");
    for (int i = 0; i < 2000; i++) fputc(i * 7, file);
    fclose(file);
    assert_int_equal(record_reader_open(path, &r, &h, &e), ERR_INVALID_ARGUMENT);
    unlink(path);
    assert_int_equal(record_reader_open(path, &r, &h, &e), ERR_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_is_a_frame_in_its_order),
        cmocka_unit_test(a_recording_is_never_overwritten),
        cmocka_unit_test(a_cut_or_foreign_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
