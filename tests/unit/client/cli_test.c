// The `shoal` command as people run it, against a fake router over real sockets.
#include "tests/unit/client/fake_router.h"

#include "common/base/buf.h"
#include "common/base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

struct ran {
    int code;
    struct buf out; // stdout, and stderr where the command says so
};

static struct ran shoal(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct ran shoal(const char *format, ...) {
    struct buf command = {0};
    struct ran r = {0};
    buf_printf(&command, "timeout 20 %s ", SHOAL_BINARY);
    va_list ap;
    va_start(ap, format);
    buf_vprintf(&command, format, ap);
    va_end(ap);
    FILE *f = popen(command.data, "r");
    assert_non_null(f);
    size_t n;
    while ((n = fread(buf_reserve(&r.out, 4096), 1, 4096, f)) > 0) r.out.len += n;
    buf_append(&r.out, "", 0);
    r.code = WEXITSTATUS(pclose(f));
    buf_free(&command);
    return r;
}

static void expect(struct ran r, int code, const char *text) {
    if (r.code != code || strstr(r.out.data, text) == NULL)
        fail_msg("exit code %d (expected %d), '%s' (expected '%s')", r.code, code, r.out.data, text);
    buf_free(&r.out);
}

#define WHOLE "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 end\n"

static void generate_prints_the_answer(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){0});
    struct ran r = shoal("generate --routers %s --model tiny --chat 'count'", fake_address(f));
    assert_string_equal(r.out.data, WHOLE);
    expect(r, 0, WHOLE);
    expect(shoal("generate --routers %s --model tiny </dev/null", fake_address(f)), 0, WHOLE);
    expect(shoal("generate --routers %s --model tiny --json --seed 7 hello", fake_address(f)), 0, "\"seed\":7,");
    assert_int_equal(fake_seen(f)->last_seed, 7);
    r = shoal("generate --routers %s --model tiny --json hello", fake_address(f));
    assert_non_null(
        strstr(r.out.data, "\"replica\":\"w1\",\"router\":\"fake\",\"attempt\":1,\"attempts\":1,\"text\":\"0 1 2"));
    assert_non_null(strstr(r.out.data, "\"tokens\":[1000,1001,"));
    expect(r, 0, "\"finish\":\"length\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20,\"cached_tokens\":0}");
    r = shoal("generate --routers %s --model tiny --events hello", fake_address(f));
    assert_non_null(strstr(r.out.data,
                           "{\"event\":\"token\",\"replica\":\"w1\",\"router\":\"fake\",\"attempts\":1,\"offset\":1,"
                           "\"token\":1001,\"text\":\"1 \"}\n"));
    expect(r, 0, "\"finish\":\"length\"");
    fake_stop(f);
}

static void a_failed_answer_is_a_sentence_and_exit_code_1(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.fault = FAKE_REJECT});
    expect(shoal("generate --routers %s --model tiny x 2>&1", fake_address(f)), 1, "shoal: the queue is full\n");
    expect(shoal("generate --routers %s --model tiny --json x 2>/dev/null", fake_address(f)), 1,
           "\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"the queue is full\",\"http_status\":429");
    fake_stop(f);
    f = fake_start(&(struct fake_options){.fault = FAKE_STALL});
    expect(shoal("generate --routers %s --model tiny --deadline 300ms x 2>&1", fake_address(f)), 1,
           "the call's deadline passed");
    fake_stop(f);
}

static void wrong_usage_and_no_connection_are_exit_code_2(void **state) {
    (void)state;
    expect(shoal("generate --routers tcp://127.0.0.1:1 --model tiny x 2>&1"), 2, "shoal: no router answered within");
    expect(shoal("status --routers tcp://127.0.0.1:1 --timeout 200ms 2>&1"), 2, "shoal: no router answered within 200 ms");
    expect(shoal("status --routers nonsense 2>&1"), 2, "nonsense");
    expect(shoal("status --config /nowhere.yaml 2>&1"), 2, "/nowhere.yaml");
    expect(shoal("generate --temprature 1 x 2>&1"), 2, "did you mean --temperature");
    expect(shoal("stauts 2>&1"), 2, "did you mean 'status'?");
    expect(shoal("2>&1"), 2, "usage: shoal COMMAND");
    expect(shoal("--help"), 0, "usage: shoal COMMAND");
    expect(shoal("demo kill --help"), 0, "Examples:");
}

static void status_has_the_fixed_json_form(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){0});
    struct ran r = shoal("status --json --routers %s", fake_address(f));
    assert_non_null(
        strstr(r.out.data, "{\"routers\":[{\"name\":\"fake\",\"region\":\"\",\"pid\":99,\"http\":\"\",\"zmq\":\"\""));
    expect(
        r, 0,
        "\"replicas\":[{\"name\":\"fake-w1\",\"region\":\"\",\"deployment\":\"tiny@blue\",\"state\":\"ready\",\"running\":3,"
        "\"queued_tokens\":0,\"workers\":[{\"name\":\"w1\",\"stage\":0,\"rank\":0,\"pid\":4242}]");
    expect(shoal("status --routers %s", fake_address(f)), 0, "w1 (4242)");
    fake_stop(f);
}

static void the_only_model_is_found(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){0});
    expect(shoal("generate --routers %s x", fake_address(f)), 0, WHOLE);
    fake_stop(f);
}

static void chat_keeps_the_conversation(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){0});
    struct ran r =
        shoal("chat --routers %s 2>&1 <<'E'\nfirst\n/reset\n/nonsense\n\nsecond\n/quit\nnever\nE\n", fake_address(f));
    assert_non_null(strstr(r.out.data, "A new conversation."));
    assert_non_null(strstr(r.out.data, "There is no command /nonsense"));
    expect(r, 0, WHOLE);
    assert_int_equal(fake_seen(f)->generates, 2);
    fake_stop(f);
}

static void demo_kill_leaves_strangers_alone(void **state) {
    (void)state;
    struct fake_router *f = fake_start(&(struct fake_options){.n_tokens = 200});
    expect(shoal("demo kill --routers %s 2>&1", fake_address(f)), 2, "has 1 ready replicas; the demo needs 2");
    fake_stop(f);
    f = fake_start(&(struct fake_options){.n_tokens = 200, .two_replicas = true});
    expect(shoal("demo kill --routers %s 2>&1", fake_address(f)), 2, "has no worker process on this host");
    fake_stop(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate_prints_the_answer),
        cmocka_unit_test(a_failed_answer_is_a_sentence_and_exit_code_1),
        cmocka_unit_test(wrong_usage_and_no_connection_are_exit_code_2),
        cmocka_unit_test(status_has_the_fixed_json_form),
        cmocka_unit_test(the_only_model_is_found),
        cmocka_unit_test(chat_keeps_the_conversation),
        cmocka_unit_test(demo_kill_leaves_strangers_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
