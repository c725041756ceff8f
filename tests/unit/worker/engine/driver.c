#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "tests/unit/worker/engine/driver.h"

static void must(err_id id, const struct error *e) {
    if (id != ERR_NONE) fail_msg("engine: %s", error_text(e));
}

static void begin(struct driver *d) {
    plan_builder_init(&d->builder, d->buffer, &d->info.limits.caps, ++d->step);
    d->builder.head.group_epoch = d->info.limits.group_epoch;
    d->n_rows = 0;
}

void driver_init(struct driver *d, const struct backend *backend, const struct engine_opts *opts) {
    struct error e = {0};
    struct engine *engine;
    must(backend->create(opts, NULL, &engine, &e), &e);
    driver_adopt(d, engine);
}

void driver_adopt(struct driver *d, struct engine *engine) {
    struct error e = {0};
    *d = (struct driver){.engine = engine};
    must(engine->ops->load(engine, NULL, NULL, &e), &e);
    must(engine->ops->warmup(engine, &e), &e);
    d->info = *engine->ops->info(engine);
    d->buffer = aligned_alloc(64, (plan_bytes_max(&d->info.limits.caps) + 63) / 64 * 64);
    begin(d);
}

void driver_fini(struct driver *d) {
    d->engine->ops->quiesce(d->engine);
    d->engine->ops->destroy(&d->engine);
    assert_null(d->engine);
    free(d->buffer);
}

void driver_open(struct driver *d, uint32_t slot, const struct sampling_params *sampling, const uint32_t *tokens,
                 uint32_t n_prompt, uint32_t n_tokens) {
    struct engine_slot_params p = {.tokens = tokens, .n_prompt = n_prompt, .n_tokens = n_tokens};
    struct error e = {0};
    sampling_params_default(&p.sampling);
    if (sampling != NULL) p.sampling = *sampling;
    must(d->engine->ops->slot_open(d->engine, slot, &p, &e), &e);
    d->mapped[slot] = d->length[slot] = 0;
}

void driver_close(struct driver *d, uint32_t slot) { d->engine->ops->slot_close(d->engine, slot); }

// A permutation of the blocks: a step that shares no factor with their number.
static uint32_t next_block(struct driver *d) {
    uint32_t blocks = d->info.limits.blocks, step = blocks % 7 != 0 ? 7 : blocks % 11 != 0 ? 11 : 1;
    return (uint32_t)((d->free_next++ * (uint64_t)step + 3) % blocks);
}

void driver_row(struct driver *d, uint32_t slot, const uint32_t *tokens, uint32_t n, enum plan_logits logits) {
    struct plan_row row = {.slot = slot, .q_len = n, .pos = d->length[slot], .adapter = PLAN_NO_ADAPTER, .logits = logits};
    if (tokens == NULL) {
        row.pos = PLAN_POS_DEVICE;
        row.token_off = PLAN_TOKEN_DEVICE;
    } else {
        assert_true(plan_builder_tokens(&d->builder, tokens, n, &row.token_off));
    }
    d->length[slot] += n;
    while (d->mapped[slot] * d->info.limits.block_tokens < d->length[slot]) {
        assert_true(plan_builder_delta(&d->builder, slot, d->mapped[slot]++, next_block(d)));
    }
    assert_true(plan_builder_row(&d->builder, &row));
    d->n_rows++;
}

uint64_t driver_submit(struct driver *d) {
    struct error e = {0};
    uint64_t step = d->step;
    size_t len = plan_builder_finish(&d->builder);
    enum engine_answer a = d->engine->ops->submit(d->engine, d->buffer, len, &e);
    if (a != ENGINE_OK) fail_msg("submit: %d %s", a, error_text(&e));
    begin(d);
    return step;
}

void driver_sample(struct driver *d, uint64_t step) {
    struct error e = {0};
    if (d->engine->ops->sample(d->engine, step, NULL, NULL, &e) != ENGINE_OK) fail_msg("sample: %s", error_text(&e));
}

struct engine_result driver_result(struct driver *d, uint64_t step) {
    struct engine_result r;
    struct error e = {0};
    enum engine_answer a;
    while ((a = d->engine->ops->result(d->engine, step, 100, &r, &e)) == ENGINE_PENDING) {
    }
    if (a != ENGINE_OK) fail_msg("result: %s", error_text(&e));
    return r;
}

struct engine_result driver_run(struct driver *d) {
    uint64_t step = driver_submit(d);
    driver_sample(d, step);
    return driver_result(d, step);
}

void driver_generate(struct driver *d, uint32_t slot, const uint32_t *tokens, uint32_t n_tokens, uint32_t chunk,
                     uint32_t *out, uint32_t n) {
    struct engine_result r = {0};
    for (uint32_t at = 0; at < n_tokens; at += chunk) {
        uint32_t size = n_tokens - at < chunk ? n_tokens - at : chunk;
        driver_row(d, slot, tokens + at, size, at + size == n_tokens ? PLAN_LOGITS_LAST : PLAN_LOGITS_NONE);
        r = driver_run(d);
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(r.rows[0].n_tokens, 1);
        out[i] = r.rows[0].tokens[0].token;
        if (i + 1 == n) break;
        driver_row(d, slot, NULL, 1, PLAN_LOGITS_LAST);
        r = driver_run(d);
    }
}
