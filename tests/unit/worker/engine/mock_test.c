// The mock: its stream depends on everything it should and on nothing else, and it keeps to its pace.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/worker/engine/driver.h"
#include "worker/engine/steps.h"
#include "worker/engine/table.h"

enum { N = 40 };

static struct engine_opts opts(void) {
    return (struct engine_opts){
        .slots = 8, .rows = 8, .batch_tokens = 64, .context = 256, .block_tokens = 8, .kv_bytes = 8192};
}

static const struct backend *the_mock(void) {
    const struct backend *b = NULL;
    struct error e = {0};
    assert_int_equal(backend_find("mock", &b, &e), ERR_NONE);
    return b;
}

static void prompt(uint32_t *tokens, uint32_t n, uint32_t salt) {
    for (uint32_t i = 0; i < n; i++) tokens[i] = (i * 31 + salt * 7 + 5) % 512;
}

static void chunking_does_not_change_the_stream(void **state) {
    uint32_t p[50], whole[N], out[N];
    prompt(p, 50, 0);
    struct driver d;
    struct engine_opts o = opts();
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, NULL, p, 50, 50);
    driver_generate(&d, 0, p, 50, 50, whole, N);
    const uint32_t chunks[] = {1, 7, 33};
    for (uint32_t i = 0; i < 3; i++) {
        driver_open(&d, 1 + i, NULL, p, 50, 50);
        driver_generate(&d, 1 + i, p, 50, chunks[i], out, N);
        assert_memory_equal(whole, out, sizeof out);
    }
    p[3]++;
    driver_open(&d, 5, NULL, p, 50, 50);
    driver_generate(&d, 5, p, 50, 50, out, N);
    assert_memory_not_equal(whole, out, sizeof out);
    driver_fini(&d);
}

static void a_resumed_stream_goes_on_as_the_undisturbed_one(void **state) {
    uint32_t p[20 + N], whole[N], rest[N];
    struct sampling_params s;
    sampling_params_default(&s);
    s.seed = 99;
    prompt(p, 20, 1);
    struct driver d;
    struct engine_opts o = opts();
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, &s, p, 20, 20);
    driver_generate(&d, 0, p, 20, 16, whole, N);
    for (uint32_t k = 1; k < N; k += 13) {
        memcpy(p + 20, whole, k * sizeof *p);
        driver_open(&d, 1, &s, p, 20, 20 + k);
        driver_generate(&d, 1, p, 20 + k, 16, rest, N - k);
        assert_memory_equal(whole + k, rest, (N - k) * sizeof *rest);
        driver_close(&d, 1);
    }
    s.seed = 100;
    driver_open(&d, 1, &s, p, 20, 20);
    driver_generate(&d, 1, p, 20, 16, rest, N);
    assert_memory_not_equal(whole, rest, sizeof rest);
    driver_fini(&d);
}

static void two_steps_in_flight_give_the_same_tokens(void **state) {
    uint32_t p[10], whole[N], out[N];
    prompt(p, 10, 2);
    struct driver d;
    struct engine_opts o = opts();
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, NULL, p, 10, 10);
    driver_generate(&d, 0, p, 10, 10, whole, N);
    driver_open(&d, 1, NULL, p, 10, 10);
    driver_row(&d, 1, p, 10, PLAN_LOGITS_LAST);
    uint64_t step = driver_submit(&d);
    for (uint32_t i = 0; i < N; i++) {
        driver_row(&d, 1, NULL, 1, PLAN_LOGITS_LAST);
        uint64_t next = driver_submit(&d); // before this step's token is known
        driver_sample(&d, step);
        out[i] = driver_result(&d, step).rows[0].tokens[0].token;
        step = next;
    }
    driver_sample(&d, step);
    driver_result(&d, step);
    assert_memory_equal(whole, out, sizeof out);
    driver_fini(&d);
}

static void a_wrong_block_changes_the_stream(void **state) {
    uint32_t p[16], good[4], bad[4];
    prompt(p, 16, 3);
    struct driver d;
    struct engine_opts o = opts();
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, NULL, p, 16, 16);
    driver_generate(&d, 0, p, 16, 16, good, 4);
    driver_open(&d, 1, NULL, p, 16, 16);
    driver_row(&d, 1, p, 15, PLAN_LOGITS_NONE);
    driver_run(&d);
    assert_true(plan_builder_delta(&d.builder, 1, 1, 77)); // not where the first 15 tokens went
    driver_row(&d, 1, p + 15, 1, PLAN_LOGITS_LAST);
    bad[0] = driver_run(&d).rows[0].tokens[0].token;
    for (int i = 1; i < 4; i++) {
        driver_row(&d, 1, NULL, 1, PLAN_LOGITS_LAST);
        bad[i] = driver_run(&d).rows[0].tokens[0].token;
    }
    assert_memory_not_equal(good, bad, sizeof bad);
    driver_fini(&d);
}

static void exported_entries_carry_a_sequence_over(void **state) {
    uint32_t p[30], whole[8], out[8];
    uint64_t kv[30], hash = 0;
    engine_ticket t;
    struct error e = {0};
    prompt(p, 30, 4);
    struct driver d;
    struct engine_opts o = opts();
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, NULL, p, 30, 30);
    driver_generate(&d, 0, p, 30, 30, whole, 8);
    assert_int_equal(the_mock()->kv_export(d.engine, (struct engine_kv_span){0, 0, 29}, kv, &t, &e), ERR_NONE);
    assert_int_equal(the_mock()->ticket_poll(d.engine, t, &hash, &e), ENGINE_OK);
    driver_open(&d, 1, NULL, p, 30, 30);
    for (uint32_t i = 0; i < 4; i++) assert_true(plan_builder_delta(&d.builder, 1, i, 100 + i));
    d.mapped[1] = 4;
    driver_run(&d); // a plan of deltas alone
    assert_int_equal(the_mock()->kv_import(d.engine, (struct engine_kv_span){1, 0, 29}, kv, hash + 1, &t, &e), ERR_PROTOCOL);
    assert_int_equal(the_mock()->kv_import(d.engine, (struct engine_kv_span){1, 0, 29}, kv, hash, &t, &e), ERR_NONE);
    d.length[1] = 29;
    driver_generate(&d, 1, p + 29, 1, 1, out, 8);
    assert_memory_equal(whole, out, sizeof out);
    driver_fini(&d);
}

static void it_keeps_its_pace_and_aborts_at_once(void **state) {
    uint32_t p[64];
    prompt(p, 64, 5);
    struct engine_opts o = opts();
    o.mock.prefill_tokens_s = 1000;
    o.mock.decode_ms = 5;
    struct driver d;
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, NULL, p, 64, 64);
    uint64_t t0 = steps_now_us();
    uint32_t out[5];
    driver_generate(&d, 0, p, 64, 64, out, 5);
    uint64_t took = steps_now_us() - t0;
    assert_in_range(took, 64000 + 4 * 5000, 64000 + 4 * 5000 + 60000);
    driver_open(&d, 1, NULL, p, 64, 64);
    driver_row(&d, 1, p, 64, PLAN_LOGITS_LAST);
    uint64_t step = driver_submit(&d);
    driver_sample(&d, step);
    struct engine_result r;
    struct error e = {0};
    assert_int_equal(the_mock()->result(d.engine, step, 0, &r, &e), ENGINE_PENDING);
    the_mock()->abort(d.engine);
    t0 = steps_now_us();
    assert_int_equal(the_mock()->result(d.engine, step, 1000, &r, &e), ENGINE_FAILED);
    assert_int_equal(e.id, ERR_CANCELLED);
    assert_true(steps_now_us() - t0 < 30000);
    driver_fini(&d);
}

static void a_prompt_with_the_crash_sequence_kills_the_process(void **state) {
    struct engine_opts o = opts();
    o.mock.n_crash = 3;
    memcpy(o.mock.crash, (uint32_t[]){6, 6, 6}, 3 * sizeof(uint32_t));
    for (int crash = 0; crash < 2; crash++) {
        pid_t pid = fork();
        if (pid == 0) {
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            uint32_t p[] = {1, 6, 6, crash ? 6 : 5, 2}, out[2];
            struct driver d;
            driver_init(&d, the_mock(), &o);
            driver_open(&d, 0, NULL, p, 5, 5);
            driver_generate(&d, 0, p, 5, 2, out, 2);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WIFSIGNALED(status), crash);
    }
}

static void a_plan_too_many_in_flight_is_refused_as_full(void **state) {
    enum { PROMPT = ENGINE_DEPTH + 4 };
    uint32_t p[PROMPT];
    prompt(p, PROMPT, 6);
    struct engine_opts o = opts();
    struct driver d;
    driver_init(&d, the_mock(), &o);
    driver_open(&d, 0, NULL, p, PROMPT, PROMPT);
    uint64_t steps[ENGINE_DEPTH];
    for (int i = 0; i < ENGINE_DEPTH; i++) {
        driver_row(&d, 0, p + i, 1, PLAN_LOGITS_NONE);
        steps[i] = driver_submit(&d);
    }
    driver_row(&d, 0, p + ENGINE_DEPTH, 1, PLAN_LOGITS_NONE);
    size_t len = plan_builder_finish(&d.builder);
    struct error e = {0};
    assert_int_equal(the_mock()->submit(d.engine, d.buffer, len, &e), ENGINE_FULL);
    driver_result(&d, steps[0]);
    assert_int_equal(the_mock()->submit(d.engine, d.buffer, len, &e), ENGINE_OK);
    driver_fini(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunking_does_not_change_the_stream),
        cmocka_unit_test(a_resumed_stream_goes_on_as_the_undisturbed_one),
        cmocka_unit_test(two_steps_in_flight_give_the_same_tokens),
        cmocka_unit_test(a_wrong_block_changes_the_stream),
        cmocka_unit_test(exported_entries_carry_a_sequence_over),
        cmocka_unit_test(it_keeps_its_pace_and_aborts_at_once),
        cmocka_unit_test(a_prompt_with_the_crash_sequence_kills_the_process),
        cmocka_unit_test(a_plan_too_many_in_flight_is_refused_as_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
