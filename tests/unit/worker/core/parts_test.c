// The small parts of worker/core: blocks, slots, the step model, sequences.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "common/base/limits.h"
#include "worker/core/blocks.h"
#include "worker/core/sequence.h"
#include "worker/core/slots.h"
#include "worker/core/step_model.h"

static void a_block_is_free_again_when_its_last_holder_drops_it(void **state) {
    struct blocks b;
    uint32_t a = 0, c = 0, none, refs[2] = {0, 0};
    blocks_init(&b, 2, 4);
    assert_true(blocks_take(&b, &a) && blocks_take(&b, &c));
    assert_int_not_equal(a, c);
    assert_false(blocks_take(&b, &none));
    blocks_share(&b, a);
    blocks_drop(&b, a);
    assert_false(blocks_take(&b, &none));
    blocks_drop(&b, a);
    assert_true(blocks_take(&b, &none));
    assert_int_equal(none, a);
    blocks_drop(&b, a);
    blocks_drop(&b, c);
    blocks_check(&b, refs);
    blocks_fini(&b);
}

static void the_planted_bug_gives_one_block_to_two_and_nothing_stops_it(void **state) {
    struct blocks b;
    uint32_t first = 0, x = 0, y = 0;
    blocks_init(&b, 3, 4);
    assert_true(blocks_take(&b, &first) && blocks_take(&b, &y));
    blocks_drop(&b, first);
    blocks_drop_again(&b, first);
    assert_true(blocks_take(&b, &x) && blocks_take(&b, &y));
    assert_int_equal(x, y);
    for (int i = 0; i < 20; i++) { // it goes on without a CHECK in the way
        blocks_drop(&b, x);
        blocks_drop_again(&b, x);
        assert_true(blocks_take(&b, &x));
    }
    blocks_fini(&b);
}

static void blocks_for_rounds_up_and_does_not_overflow(void **state) {
    assert_int_equal(blocks_for(0, 4), 0);
    assert_int_equal(blocks_for(1, 4), 1);
    assert_int_equal(blocks_for(4, 4), 1);
    assert_int_equal(blocks_for(5, 4), 2);
    assert_int_equal(blocks_for(UINT32_MAX, 32), 1u << 27);
}

static void every_slot_is_given_once(void **state) {
    struct slot_map m;
    struct sequence seq[3];
    slot_map_init(&m, 2);
    uint32_t a = slot_map_take(&m, &seq[0]), b = slot_map_take(&m, &seq[1]);
    assert_int_not_equal(a, b);
    assert_int_equal(slot_map_take(&m, &seq[2]), SLOT_NONE);
    slot_map_check(&m);
    slot_map_give(&m, a);
    assert_int_equal(slot_map_take(&m, &seq[2]), a);
    assert_ptr_equal(m.held[a], &seq[2]);
    slot_map_check(&m);
    slot_map_fini(&m);
}

static void a_sequence_knows_prefill_from_decode_and_when_to_stop(void **state) {
    struct sequence seq;
    uint32_t prompt[] = {3, 1, 2};
    sequence_init(&seq, prompt, 3, 2, 4);
    assert_int_equal(sequence_prefill_left(&seq), 3);
    seq.slot = 0, seq.opened_with = 3;
    assert_false(sequence_decodes(&seq));
    seq.planned = 3, seq.unsampled = 1; // the whole prompt is under way
    assert_true(sequence_decodes(&seq));
    assert_true(sequence_may_run(&seq)); // for the fifth token
    seq.planned = 4, seq.unsampled = 2;
    assert_false(sequence_may_run(&seq));
    assert_false(sequence_paused(&seq));
    seq.unsampled = 0, seq.computed = 3;
    sequence_append(&seq, 9);
    assert_int_equal(sequence_prefill_left(&seq), 0);
    seq.pause_at = 4;
    assert_false(sequence_may_run(&seq));
    assert_true(sequence_paused(&seq));
    sequence_fini(&seq);
}

static void learn(struct step_model *m, double a, double b, double c, uint32_t rows, uint32_t tokens) {
    step_model_learn(m, rows, tokens, (uint32_t)(a + b * rows + c * tokens));
}

static void the_step_model_finds_the_rates_of_mixed_steps(void **state) {
    struct step_model m;
    step_model_init(&m, 32, 512);
    step_model_guess(&m, 100, 10, 0); // far off
    for (uint32_t i = 0; i < 400; i++) learn(&m, 2000, 100, 20, i % 33, i % 3 ? (i * 37) % 480 : 0);
    assert_true(fabs(step_model_prefill_rate(&m) - 50000) < 2500);
    assert_true(fabs(step_model_decode_rate(&m) - 32e6 / (2000 + 3200)) < 300);
}

static void what_costs_nothing_has_the_greatest_rate_that_can_be_told(void **state) {
    struct step_model m;
    step_model_init(&m, 65536, 65536);
    for (int i = 0; i < 200; i++) step_model_learn(&m, 1, 65536, 1);
    assert_true(step_model_prefill_rate(&m) > 0.9e9f && step_model_prefill_rate(&m) <= RATE_MAX);
    assert_true(step_model_decode_rate(&m) > 0 && step_model_decode_rate(&m) <= RATE_MAX);
}

static void the_step_model_follows_a_machine_that_slows_down(void **state) {
    struct step_model m;
    step_model_init(&m, 32, 512);
    for (uint32_t i = 0; i < 400; i++) learn(&m, 1000, 50, 10, i % 33, i % 3 ? (i * 37) % 480 : 0);
    for (uint32_t i = 0; i < 400; i++) learn(&m, 4000, 200, 40, i % 33, i % 3 ? (i * 37) % 480 : 0);
    assert_true(fabs(step_model_prefill_rate(&m) - 25000) < 2500);
}

// Single streams say nothing of how a full step fares; the engine's own figures for both ends do.
static void a_worker_that_saw_only_single_streams_is_not_taken_for_slow(void **state) {
    struct step_model m;
    step_model_init(&m, 32, 512);
    step_model_guess(&m, 50000, 32e6f / 5200, 2100);
    for (uint32_t i = 0; i < 1000; i++) learn(&m, 2000, 100, 20, 1, i % 60 == 0);
    assert_true(fabs(step_model_decode_rate(&m) - 32e6 / 5200) < 300);
}

static void what_the_steps_do_not_show_stays_as_it_was_believed(void **state) {
    struct step_model m;
    step_model_init(&m, 32, 512);
    step_model_guess(&m, 50000, 6000, 0);
    for (uint32_t i = 0; i < 100000; i++) learn(&m, 2000, 100, 20, 1 + i % 32, 0); // decoding only
    assert_true(fabs(step_model_prefill_rate(&m) - 50000) < 500);
    assert_true(fabs(step_model_decode_rate(&m) - 32e6 / (2000 + 3200)) < 300);
}

static void rates_stay_positive_and_finite_whatever_the_steps_took(void **state) {
    struct step_model m;
    step_model_init(&m, 4, 64);
    step_model_guess(&m, 0, -1, 0);
    uint32_t took[] = {0, UINT32_MAX, 1, 0, 0, 1000000, 0};
    for (uint32_t i = 0; i < 5000; i++) {
        step_model_learn(&m, i % 5, (i * 7) % 64, took[i % 7]);
        assert_true(step_model_prefill_rate(&m) > 0 && isfinite(step_model_prefill_rate(&m)));
        assert_true(step_model_decode_rate(&m) > 0 && isfinite(step_model_decode_rate(&m)));
    }
}

static void one_stopped_step_does_not_spoil_the_rates(void **state) {
    struct step_model m;
    step_model_init(&m, 32, 512);
    for (uint32_t i = 0; i < 300; i++) learn(&m, 2000, 100, 20, i % 33, i % 3 ? (i * 37) % 480 : 0);
    step_model_learn(&m, 8, 0, 60000000); // a minute, SIGSTOP
    for (uint32_t i = 0; i < 60; i++) learn(&m, 2000, 100, 20, i % 33, i % 3 ? (i * 37) % 480 : 0);
    assert_true(step_model_decode_rate(&m) > 32e6 / (2000 + 3200) * 0.7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_free_again_when_its_last_holder_drops_it),
        cmocka_unit_test(the_planted_bug_gives_one_block_to_two_and_nothing_stops_it),
        cmocka_unit_test(blocks_for_rounds_up_and_does_not_overflow),
        cmocka_unit_test(every_slot_is_given_once),
        cmocka_unit_test(a_sequence_knows_prefill_from_decode_and_when_to_stop),
        cmocka_unit_test(the_step_model_finds_the_rates_of_mixed_steps),
        cmocka_unit_test(what_costs_nothing_has_the_greatest_rate_that_can_be_told),
        cmocka_unit_test(the_step_model_follows_a_machine_that_slows_down),
        cmocka_unit_test(a_worker_that_saw_only_single_streams_is_not_taken_for_slow),
        cmocka_unit_test(what_the_steps_do_not_show_stays_as_it_was_believed),
        cmocka_unit_test(rates_stay_positive_and_finite_whatever_the_steps_took),
        cmocka_unit_test(one_stopped_step_does_not_spoil_the_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
