// Random schedules on the CPU engine: sequences join, prefill in random chunks beside others' decoding, are closed and
// resumed from their tokens, all with two plans in flight. Whatever happens, the logits under each token must have the bits
// that a run of that sequence alone gives, and its tokens must be those of the undisturbed run. engine_fuzz [SEED] [ROUNDS];
// prints its seed.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "tests/unit/worker/engine/driver.h"
#include "tests/unit/worker/engine/tiny_model.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/model/model.h"

enum { VOCAB = 96, SEQUENCES = 12, PROMPT_MAX = 300, OUTPUT = 24, SLOTS = 6, CHUNK_MAX = 70 };

static uint64_t seed = 1;
static uint32_t rounds = 2;

struct sequence {
    uint32_t tokens[PROMPT_MAX + OUTPUT], n_prompt, n_tokens; // as far as they are known
    uint32_t want[OUTPUT];
    float logits[OUTPUT][VOCAB];
    struct sampling_params sampling;
    uint32_t slot, done; // done: KV entries planned since it was opened; slot == SLOTS: not open
    uint32_t in_flight;  // sampling rows not answered
};

struct world {
    struct driver d;
    struct sequence s[SEQUENCES];
    uint32_t draws;
};

static uint32_t draw(struct world *w, uint32_t n) {
    return philox4x32((struct philox){{w->draws++, 0, 0, 1}}, seed).v[0] % n;
}

static void expect(struct world *w, struct sequence *s) {
    driver_open(&w->d, 0, &s->sampling, s->tokens, s->n_prompt, s->n_prompt);
    for (uint32_t i = 0; i < OUTPUT; i++) {
        driver_row(&w->d, 0, i == 0 ? s->tokens : NULL, i == 0 ? s->n_prompt : 1, PLAN_LOGITS_LAST);
        struct engine_result r = driver_run(&w->d);
        s->want[i] = r.rows[0].tokens[0].token;
        memcpy(s->logits[i], r.rows[0].logits, sizeof s->logits[i]);
    }
    driver_close(&w->d, 0);
}

static void create(struct world *w) {
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        struct sequence *s = &w->s[i];
        *s = (struct sequence){.slot = SLOTS, .n_prompt = 1 + draw(w, PROMPT_MAX)};
        for (uint32_t t = 0; t < s->n_prompt; t++) s->tokens[t] = draw(w, VOCAB);
        s->n_tokens = s->n_prompt;
        sampling_params_default(&s->sampling);
        s->sampling.seed = draw(w, 1000);
        s->sampling.temperature = draw(w, 3) == 0 ? 0 : 0.8f;
        s->sampling.presence_penalty = draw(w, 2) ? 0.5f : 0;
        expect(w, s);
    }
}

static bool is_over(const struct sequence *s) { return s->n_tokens == s->n_prompt + OUTPUT; }

static void open_some(struct world *w) {
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        struct sequence *s = &w->s[i];
        bool taken[SLOTS + 1] = {false};
        for (uint32_t k = 0; k < SEQUENCES; k++) taken[w->s[k].slot] = true;
        uint32_t slot = draw(w, SLOTS);
        if (s->slot < SLOTS || is_over(s) || taken[slot] || draw(w, 2) == 0) continue;
        driver_open(&w->d, slot, &s->sampling, s->tokens, s->n_prompt, s->n_tokens);
        s->slot = slot;
        s->done = 0;
    }
}

// Plans a row for most open sequences; those whose next token isn't known yet go on from the device.
static void plan_rows(struct world *w, struct sequence **rows, uint32_t *n) {
    uint32_t left = 128;
    *n = 0;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        struct sequence *s = &w->s[i];
        uint32_t known = s->n_tokens, planned = s->n_tokens + s->in_flight;
        if (s->slot == SLOTS || planned >= s->n_prompt + OUTPUT || left < CHUNK_MAX || draw(w, 4) == 0) continue;
        if (s->done < known) {
            uint32_t size = 1 + draw(w, CHUNK_MAX);
            size = size < known - s->done ? size : known - s->done;
            bool last = s->done + size == known;
            driver_row(&w->d, s->slot, s->tokens + s->done, size, last ? PLAN_LOGITS_LAST : PLAN_LOGITS_NONE);
            s->done += size;
            s->in_flight += last;
            left -= size;
            rows[(*n)++] = last ? s : NULL;
        } else {
            driver_row(&w->d, s->slot, NULL, 1, PLAN_LOGITS_LAST);
            s->done++;
            s->in_flight++;
            left--;
            rows[(*n)++] = s;
        }
    }
}

static void take(struct world *w, uint64_t step, struct sequence **rows, uint32_t n) {
    struct engine_result r = driver_result(&w->d, step);
    assert_int_equal(r.n_rows, n);
    for (uint32_t i = 0; i < n; i++) {
        struct sequence *s = rows[i];
        if (s == NULL) continue;
        uint32_t at = s->n_tokens - s->n_prompt;
        if (memcmp(r.rows[i].logits, s->logits[at], sizeof s->logits[at]) != 0 || r.rows[i].tokens[0].token != s->want[at]) {
            fail_msg("seed %llu: token %u of a sequence of %u differs", (unsigned long long)seed, at, s->n_prompt);
        }
        s->tokens[s->n_tokens++] = s->want[at];
        s->in_flight--;
    }
}

static void close_some(struct world *w) {
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        struct sequence *s = &w->s[i];
        bool idle = s->slot < SLOTS && s->in_flight == 0 && w->d.n_rows == 0;
        if (!idle || (!is_over(s) && draw(w, 12) > 0)) continue; // over, or preempted: it will resume
        driver_close(&w->d, s->slot);
        s->slot = SLOTS;
    }
}

static void run(struct world *w) {
    struct sequence *rows[2][SEQUENCES];
    uint32_t n[2] = {0, 0}, which = 0, over = 0;
    uint64_t step[2] = {0, 0};
    while (over < SEQUENCES) {
        if (step[which ^ 1] == 0) close_some(w); // nothing in flight
        open_some(w);
        plan_rows(w, rows[which], &n[which]);
        step[which] = driver_submit(&w->d);
        driver_sample(&w->d, step[which]);
        which ^= 1;
        if (step[which] != 0) take(w, step[which], rows[which], n[which]);
        step[which] = 0;
        if (draw(w, 3) == 0) { // let the pipeline run dry
            which ^= 1;
            take(w, step[which], rows[which], n[which]);
            step[which] = 0;
        }
        over = 0;
        for (uint32_t i = 0; i < SEQUENCES; i++) over += is_over(&w->s[i]) && w->s[i].slot == SLOTS;
    }
    if (step[which ^ 1] != 0) take(w, step[which ^ 1], rows[which ^ 1], n[which ^ 1]);
}

static void no_schedule_changes_a_bit(void **state) {
    const char *const configs[] = {tiny_v3, tiny_v2, tiny_llama, tiny_qwen2, tiny_qwen3, tiny_mistral};
    for (uint32_t round = 0; round < rounds * ARRAY_LEN(configs); round++, seed++) {
        printf("seed %llu\n", (unsigned long long)seed);
        static struct world w;
        char *folder = tiny_model_write(configs[seed % ARRAY_LEN(configs)], seed, TINY_BF16, UINT32_MAX);
        struct model *m;
        struct error e = {0};
        assert_int_equal(model_open(folder, &m, &e), ERR_NONE);
        struct engine_opts o = {.model = m, .threads = 1 + (uint32_t)(seed % 3), .slots = SLOTS, .rows = SLOTS};
        o.batch_tokens = PROMPT_MAX;
        o.block_tokens = 16u << seed % 3;
        o.kv_bytes = 64 << 20;
        driver_init(&w.d, &cpu_backend, &o);
        w.draws = 0;
        create(&w);
        run(&w);
        driver_fini(&w.d);
        model_close(&m);
        tiny_model_remove(folder);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    if (argc > 2) rounds = (uint32_t)strtoul(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_schedule_changes_a_bit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
