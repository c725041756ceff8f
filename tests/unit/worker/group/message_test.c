// Frames between the members of a replica: what was published once reads and writes the same for ever, and no bytes hurt.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "worker/group/mailbox.h"
#include "worker/group/message.h"

static const char *const names[] = {"join",       "welcome",   "refused", "ready",  "beat",       "slot_open",
                                    "slot_close", "plan",      "hidden",  "tokens", "result",     "save",
                                    "load",       "part_done", "notice",  "leave",  "ready_store"};

static size_t golden(const char *name, uint8_t *bytes, size_t size) {
    char path[200];
    snprintf(path, sizeof path, "tests/fixtures/group_frames/%s.bin", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, size, f);
    fclose(f);
    assert_true(n > 0 && n < size);
    return n;
}

static struct group_msg *read_golden(const char *name) {
    uint8_t bytes[1024];
    size_t n = golden(name, bytes, sizeof bytes);
    struct group_msg *m = NULL;
    struct error e = {0};
    if (group_decode(bytes, n, &m, &e) != ERR_NONE) fail_msg("%s: %s", name, error_text(&e));
    assert_int_equal(strncmp(group_kind_name(m->kind), name, strlen(group_kind_name(m->kind))), 0);
    return m;
}

static void golden_frames_are_read_and_written_to_the_same_bytes(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        uint8_t bytes[1024];
        size_t n = golden(names[i], bytes, sizeof bytes);
        struct group_msg *m = read_golden(names[i]);
        struct buf out = {0};
        group_encode(m, &out);
        assert_int_equal(out.len, n);
        assert_memory_equal(out.data, bytes, n);
        buf_free(&out);
        group_msg_free(m);
    }
}

static void what_they_say_is_what_was_written(void **state) {
    struct group_msg *m = read_golden("join");
    assert_string_equal(m->join.who.group, "a1");
    assert_true(m->join.who.stage == 1 && m->join.who.stages == 3 && m->join.who.layer_end == 4 && m->join.epoch == 7);
    group_msg_free(m);
    m = read_golden("slot_open");
    const struct engine_slot_params *p = &m->slot_open.params;
    assert_true(p->n_tokens == 3 && p->n_prompt == 2 && p->tokens[2] == 30 && p->sampling.seed == 99);
    assert_true(p->sampling.n_bias == 2 && p->sampling.bias[1].token == 8 && p->sampling.bias[1].bias == 2.5f);
    assert_true(p->sampling.n_eos == 2 && p->sampling.min_p == 0.125f && p->sampling.min_tokens == 3);
    group_msg_free(m);
    m = read_golden("hidden");
    assert_true(m->hidden.floats == 2 && m->hidden.states[0] == 1.0f && m->hidden.states[1] == -2.0f);
    group_msg_free(m);
    m = read_golden("plan");
    assert_true(m->plan.len == 64 && (uintptr_t)m->plan.bytes % PLAN_ALIGN == 0);
    group_msg_free(m);
    m = read_golden("result");
    assert_true(m->result.n == 3 && m->result.rows[0].token.n_top == 2 && m->result.rows[0].token.top[1].token == 9);
    assert_true(m->result.rows[2].numeric_error && m->result.rows[1].n_tokens == 0);
    group_msg_free(m);
    m = read_golden("load");
    assert_true(m->part.ticket == 78 && m->part.slot == 6 && m->part.count == 40 && m->part.key.choice == 2);
    assert_true(m->part.shard.hash == UINT64_C(12345678901234567890) && m->part.entries == NULL);
    assert_string_equal(m->part.handle, "00112233445566778899aabbccddeeff");
    assert_memory_equal(m->part.key.request.bytes, "0123456789abcdef", 16);
    group_msg_free(m);
    m = read_golden("part_done");
    assert_true(m->part_done.hash == UINT64_C(12345678901234567890) && m->part_done.ticket == 77);
    assert_string_equal(m->part_done.failure, "the disk is full");
    group_msg_free(m);
    m = read_golden("ready_store");
    assert_true(m->ready.kv_bytes_per_token == 512 && strcmp(m->ready.store, "0011223344556677") == 0);
    group_msg_free(m);
}

// Bytes changed, cut off and added: an error or a message, never harm (the sanitizers look on).
static void mangled_frames_are_refused_or_harmless(void **state) {
    uint32_t refused = 0;
    for (uint32_t round = 0; round < 20000; round++) {
        struct philox r = philox4x32((struct philox){{round, 0, 0, 2}}, 7);
        uint8_t bytes[1024];
        size_t n = golden(names[round % ARRAY_LEN(names)], bytes, sizeof bytes);
        for (uint32_t k = 0; k <= r.v[0] % 3; k++) bytes[r.v[1 + k] % n] = (uint8_t)(r.v[1 + k] >> 16);
        if (r.v[0] % 5 == 0) n = r.v[1] % n;
        struct group_msg *m = NULL;
        struct error e = {0};
        if (group_decode(bytes, n, &m, &e) == ERR_NONE) {
            struct buf out = {0};
            group_encode(m, &out);
            buf_free(&out);
            group_msg_free(m);
        } else {
            refused++;
            assert_true(e.text[0] != '\0');
        }
    }
    assert_true(refused > 1000);
}

static void refuse(const uint8_t *bytes, size_t n, const char *sentence) {
    struct group_msg *m;
    struct error e = {0};
    assert_int_not_equal(group_decode(bytes, n, &m, &e), ERR_NONE);
    assert_non_null(strstr(e.text, sentence));
}

static void what_breaks_a_limit_is_told(void **state) {
    refuse((const uint8_t[]){0x08, 0x02, 0x22, 0x00}, 4, "version 2");
    refuse((const uint8_t[]){0x08, 0x01}, 2, "unknown kind");
    refuse((const uint8_t[]){0x08, 0x01, 0x12, 0x00}, 4, "incarnation");
    refuse((const uint8_t[]){0x08, 0x01, 0x1a, 0x00}, 4, "Welcome");
    refuse((const uint8_t[]){0x08, 0x01, 0x4a, 0x00}, 4, "Plan");
    refuse((const uint8_t[]){0x08, 0x01, 0x52, 0x03, 0x1a, 0x01, 0x00}, 7, "whole floats");
    refuse((const uint8_t[]){0x08, 0x01, 0x62, 0x03, 0x1a, 0x01, 0x01}, 7, "columns");
    refuse((const uint8_t[]){0x08, 0x01, 0x6a, 0x00}, 4, "a part of nothing");
    refuse((const uint8_t[]){0x08, 0x01, 0x72, 0x06, 0x20, 0x01, 0x32, 0x02, 'a', 'b'}, 10, "of no request");
}

static void count_free(void *item) { ++*(int *)item; }

static void a_mailbox_keeps_order_is_bounded_and_can_be_nudged(void **state) {
    struct mailbox m;
    int a = 0, b = 0, c = 0;
    mailbox_init(&m, 2);
    assert_null(mailbox_pop(&m, 0));
    assert_null(mailbox_pop(&m, 1));
    assert_true(mailbox_push(&m, &a) && mailbox_push(&m, &b) && !mailbox_push(&m, &c));
    assert_ptr_equal(mailbox_pop(&m, 1000), &a);
    mailbox_nudge(&m);
    assert_ptr_equal(mailbox_pop(&m, 1000000), &b);
    mailbox_nudge(&m);
    assert_null(mailbox_pop(&m, 0));
    assert_null(mailbox_pop(&m, 1000000)); // at once
    assert_true(mailbox_push(&m, &c));
    mailbox_fini(&m, count_free);
    assert_true(a == 0 && b == 0 && c == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_frames_are_read_and_written_to_the_same_bytes),
        cmocka_unit_test(what_they_say_is_what_was_written),
        cmocka_unit_test(mangled_frames_are_refused_or_harmless),
        cmocka_unit_test(what_breaks_a_limit_is_told),
        cmocka_unit_test(a_mailbox_keeps_order_is_bounded_and_can_be_nudged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
