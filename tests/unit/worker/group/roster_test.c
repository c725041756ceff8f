// Who gets into a group, and what its comings and goings do to it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/check.h"
#include "common/base/philox.h"
#include "worker/group/roster.h"

static struct group_join of_stage(uint32_t stage, uint32_t stages) {
    struct group_join j = {.who = {.group = "g", .stage = stage, .stages = stages, .build = "1", .plan_abi = 1}};
    snprintf(j.who.weights, sizeof j.who.weights, "w");
    j.who.layers = 2 * stages;
    j.who.layer_first = 2 * stage;
    j.who.layer_end = 2 * stage + 2;
    j.who.hidden = 8;
    j.who.vocab = 16;
    j.incarnation = 100 + stage;
    snprintf(j.name, sizeof j.name, "p%u", stage);
    snprintf(j.address, sizeof j.address, "tcp://127.0.0.1:%u", 7800 + stage);
    return j;
}

static err_id join(struct roster *r, const struct group_join *j, bool *broken, struct error *e) {
    bool final, ignored;
    return roster_join(r, j, 0, broken ? broken : &ignored, &final, e);
}

static void in(struct roster *r, uint32_t stage) {
    struct group_join j = of_stage(stage, r->stages);
    struct error e = {0};
    if (join(r, &j, NULL, &e) != ERR_NONE) fail_msg("%s", error_text(&e));
}

static struct roster complete(uint32_t stages) {
    struct roster r;
    struct group_join self = of_stage(0, stages);
    roster_init(&r, &self);
    for (uint32_t s = 1; s < stages; s++) {
        assert_false(roster_complete(&r));
        in(&r, s);
    }
    assert_true(roster_complete(&r));
    return r;
}

static void a_group_forms_when_all_are_there_and_is_up_when_all_are_ready(void **state) {
    struct roster r = complete(3);
    char text[ERROR_TEXT_MAX];
    assert_int_equal(roster_form(&r), 1);
    assert_false(roster_complete(&r)); // it is under way
    assert_false(roster_ready(&r, 1, 2));
    for (uint32_t s = 0; s < 3; s++) {
        assert_false(roster_is_up(&r));
        roster_explain(&r, text);
        assert_non_null(strstr(text, "loading"));
        assert_true(roster_ready(&r, s, 1));
        assert_false(roster_ready(&r, s, 1)); // once
    }
    assert_true(roster_is_up(&r));
    roster_explain(&r, text);
    assert_string_equal(text, "");
}

static void a_loss_voids_the_epoch_and_a_return_begins_the_next(void **state) {
    for (uint32_t ready = 0; ready <= 3; ready++) { // in any state of forming
        struct roster r = complete(3);
        char text[ERROR_TEXT_MAX];
        roster_form(&r);
        for (uint32_t s = 0; s < ready; s++) roster_ready(&r, s, 1);
        assert_true(roster_lost(&r, 1));
        assert_false(roster_lost(&r, 1)); // nothing is under way any more
        assert_false(roster_is_up(&r));
        assert_false(roster_ready(&r, 2, 1)); // late
        roster_explain(&r, text);
        assert_string_equal(text, "waiting for stage 1 of group g");
        in(&r, 1);
        assert_true(roster_complete(&r));
        assert_int_equal(roster_form(&r), 2);
    }
}

static void a_second_join_of_the_same_process_voids_the_epoch(void **state) {
    struct roster r = complete(2);
    struct group_join j = of_stage(1, 2);
    struct error e = {0};
    bool broken;
    roster_form(&r);
    assert_int_equal(join(&r, &j, &broken, &e), ERR_NONE);
    assert_true(broken && roster_complete(&r));
}

static void epochs_go_on_where_any_member_has_been(void **state) {
    struct roster r;
    struct group_join self = of_stage(0, 2), j = of_stage(1, 2);
    struct error e = {0};
    roster_init(&r, &self); // a leader that has just started
    j.epoch = 41;
    assert_int_equal(join(&r, &j, NULL, &e), ERR_NONE);
    assert_int_equal(roster_form(&r), 42);
}

static void silence_is_noticed_after_the_time_given(void **state) {
    struct roster r = complete(3);
    r.members[1].heard_at = 1000;
    r.members[2].heard_at = 500;
    assert_int_equal(roster_silent(&r, 1499, 1000), 0);
    assert_int_equal(roster_silent(&r, 1500, 1000), 2);
    roster_lost(&r, 2);
    assert_int_equal(roster_silent(&r, 1999, 1000), 0);
    assert_int_equal(roster_silent(&r, 2000, 1000), 1);
}

static void what_does_not_fit_is_refused_with_its_reason(void **state) {
    static const struct {
        size_t at;
        const char *word;
    } numbers[] = {{offsetof(struct group_identity, plan_abi), "format of step plans"},
                   {offsetof(struct group_identity, stages), "number of stages"},
                   {offsetof(struct group_identity, layers), "number of layers"},
                   {offsetof(struct group_identity, hidden), "hidden size"},
                   {offsetof(struct group_identity, vocab), "vocabulary"},
                   {offsetof(struct group_identity, layer_first), "stage 0 ends before layer 2"}};
    struct roster r;
    struct group_join self = of_stage(0, 3);
    roster_init(&r, &self);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        struct group_join j = of_stage(1, 3);
        struct error e = {0};
        bool broken, final = false;
        ++*(uint32_t *)((char *)&j.who + numbers[i].at);
        assert_int_equal(roster_join(&r, &j, 0, &broken, &final, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, numbers[i].word));
        assert_true(final);
    }
    struct group_join j = of_stage(2, 3);
    struct error e = {0};
    j.address[0] = '\0';
    assert_int_equal(join(&r, &j, NULL, &e), ERR_CONFIG);
    j = of_stage(2, 3);
    j.who.layer_end--;
    assert_int_equal(join(&r, &j, NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "last layer"));
    in(&r, 2);
    j = of_stage(1, 3);
    j.who.layer_end--;
    assert_int_equal(join(&r, &j, NULL, &e), ERR_CONFIG); // a gap before stage 2, which is there already
    j = of_stage(0, 3);
    assert_int_equal(join(&r, &j, NULL, &e), ERR_CONFIG);
    j = of_stage(1, 3);
    j.who.stage = UINT32_MAX;
    assert_int_equal(join(&r, &j, NULL, &e), ERR_CONFIG);
}

static void a_stage_that_is_held_is_refused_for_the_time_being(void **state) {
    struct roster r = complete(2);
    struct group_join j = of_stage(1, 2);
    struct error e = {0};
    bool broken, final;
    roster_form(&r);
    j.incarnation++;
    assert_int_equal(roster_join(&r, &j, 0, &broken, &final, &e), ERR_UNAVAILABLE);
    assert_false(final || broken);
    assert_false(roster_complete(&r)); // the epoch goes on
    roster_lost(&r, 1);
    assert_int_equal(roster_join(&r, &j, 0, &broken, &final, &e), ERR_NONE);
}

// Whatever happens in whatever order: an epoch is under way only with everybody in it, and never comes twice.
static void no_order_of_events_confuses_it(void **state) {
    for (uint32_t seed = 0; seed < 200; seed++) {
        struct roster r;
        uint32_t stages = 2 + seed % 3, last_epoch = 0;
        struct group_join self = of_stage(0, stages);
        roster_init(&r, &self);
        for (uint32_t i = 0; i < 400; i++) {
            struct philox p = philox4x32((struct philox){{seed, i, 0, 3}}, 11);
            uint32_t stage = 1 + p.v[0] % (stages - 1);
            struct group_join j = of_stage(stage, stages);
            struct error e = {0};
            j.incarnation += p.v[1] % 2;
            j.epoch = p.v[2] % 50 == 0 ? last_epoch + 3 : 0;
            if (p.v[3] % 4 == 0) join(&r, &j, NULL, &e);
            if (p.v[3] % 4 == 1) roster_lost(&r, stage);
            if (p.v[3] % 4 >= 2) roster_ready(&r, p.v[1] % stages, r.epoch - (p.v[2] % 5 == 0));
            if (roster_complete(&r)) {
                uint32_t epoch = roster_form(&r);
                assert_true(epoch > last_epoch);
                last_epoch = epoch;
            }
            uint32_t in_epoch = 0;
            for (uint32_t s = 0; s < stages; s++) in_epoch += r.members[s].state >= ROSTER_INVITED;
            assert_true(r.forming ? in_epoch == stages : in_epoch == 0);
            assert_true(!roster_is_up(&r) || r.forming);
        }
        assert_true(last_epoch > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_forms_when_all_are_there_and_is_up_when_all_are_ready),
        cmocka_unit_test(a_loss_voids_the_epoch_and_a_return_begins_the_next),
        cmocka_unit_test(a_second_join_of_the_same_process_voids_the_epoch),
        cmocka_unit_test(epochs_go_on_where_any_member_has_been),
        cmocka_unit_test(silence_is_noticed_after_the_time_given),
        cmocka_unit_test(what_does_not_fit_is_refused_with_its_reason),
        cmocka_unit_test(a_stage_that_is_held_is_refused_for_the_time_being),
        cmocka_unit_test(no_order_of_events_confuses_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
