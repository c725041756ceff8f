// Sequences that begin alike: what is computed once, what is kept, what is not to be found, and that it changes no token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include "tests/unit/worker/core/world.h"
#include "worker/core/suspend.h"

static uint64_t prefilled(const struct world *w) { return world_counters(w).prefilled_tokens; }

static void the_same_prompt_is_computed_once_but_for_its_last_block(void **state) {
    for (uint32_t n = 1; n <= 40; n++) {
        struct world_options o = world_defaults(); // blocks of 4 tokens
        struct world *w = world_create(&o);
        uint32_t a = world_generate(w, 1, n, 5);
        world_settle(w, 2000);
        uint64_t before = prefilled(w);
        uint32_t b = world_sibling(w, a, 5);
        world_ask(w, b, 1);
        world_settle(w, 2000);
        uint32_t cached = (n - 1) / 4 * 4;
        assert_int_equal(w->streams[a].end.usage.cached_tokens, 0);
        assert_int_equal(w->streams[b].end.usage.cached_tokens, cached);
        assert_int_equal(prefilled(w) - before, n - cached);
        world_assert_whole(w, a);
        world_assert_whole(w, b);
        world_destroy(w);
    }
}

static void answers_to_one_prompt_that_come_together_prefill_it_once(void **state) {
    for (uint32_t choices = 2; choices <= 4; choices++) {
        struct world_options o = world_defaults(); // chunks of 16 tokens
        struct world *w = world_create(&o);
        uint32_t s[4] = {world_stream(w, 100, 20)};
        for (uint32_t i = 1; i < choices; i++) s[i] = world_sibling(w, s[0], 20);
        for (uint32_t i = 0; i < choices; i++) world_ask(w, s[i], 1);
        world_settle(w, 2000);
        for (uint32_t i = 0; i < choices; i++) world_assert_whole(w, s[i]);
        assert_int_equal(prefilled(w), 100 + (choices - 1) * 4);
        world_destroy(w);
    }
}

// Who waits for another one's prefill is not lost with it, whenever that ends.
static void a_prefill_that_is_cancelled_is_taken_up_by_who_waited_for_it(void **state) {
    for (uint32_t turns = 1; turns < 12; turns++) {
        struct world_options o = world_defaults();
        struct world *w = world_create(&o);
        uint32_t a = world_stream(w, 100, 20), b = world_sibling(w, a, 20), c = world_sibling(w, a, 20);
        world_ask(w, a, 1);
        world_ask(w, b, 1);
        world_ask(w, c, 1);
        world_turns(w, turns);
        world_cancel(w, a, 1);
        world_settle(w, 2000);
        world_assert_whole(w, b);
        world_assert_whole(w, c);
        assert_true(prefilled(w) <= 100 + 100 + 4);
        world_destroy(w);
    }
}

static void an_answer_is_part_of_the_next_turns_prefix(void **state) {
    struct world_options o = world_defaults();
    struct world *w = world_create(&o);
    uint32_t a = world_generate(w, 1, 30, 40);
    world_settle(w, 2000);
    uint32_t made = record_log_count(w->streams[a].log), b = world_stream(w, 30 + made + 10, 5);
    memcpy(w->streams[b].prompt, w->streams[a].prompt, 30 * sizeof(uint32_t));
    for (uint32_t i = 0; i < made; i++) w->streams[b].prompt[30 + i] = record_log_get(w->streams[a].log, i).token;
    world_ask(w, b, 1);
    world_settle(w, 2000);
    assert_true(w->streams[b].end.usage.cached_tokens + 4 >= 30 + made - 1); // the last token of a was never computed
    world_assert_whole(w, b);
    world_destroy(w);
}

static void a_sequence_that_had_to_leave_finds_what_nobody_else_needed(void **state) {
    struct world_options o = world_defaults();
    o.n_blocks = 40; // 160 tokens
    struct world *w = world_create(&o);
    uint32_t s[4];
    for (uint32_t i = 0; i < 4; i++) s[i] = world_generate(w, 1, 20, 60);
    world_settle(w, 5000);
    for (uint32_t i = 0; i < 4; i++) world_assert_whole(w, s[i]);
    struct worker_counters c = world_counters(w);
    if (c.preemptions > 0) assert_true(c.cached_tokens > 0);
    assert_true(c.blocks_held_most <= 40);
    world_destroy(w);
}

static void the_prefix_that_was_used_longest_ago_goes_first(void **state) {
    struct world_options o = world_defaults();
    o.n_blocks = 32;
    o.max_context = 100;
    struct world *w = world_create(&o);
    uint32_t a = world_generate(w, 1, 41, 1), b, again;
    world_settle(w, 2000);
    b = world_generate(w, 1, 41, 1);
    world_settle(w, 2000);
    again = world_sibling(w, a, 1); // a's is the newer now
    world_ask(w, again, 1);
    world_settle(w, 2000);
    assert_int_equal(w->streams[again].end.usage.cached_tokens, 40);
    world_generate(w, 1, 60, 1); // takes 15 of the 32 blocks
    world_settle(w, 2000);
    assert_true(world_counters(w).evictions > 0);
    again = world_sibling(w, a, 1);
    world_ask(w, again, 1);
    world_settle(w, 2000);
    assert_int_equal(w->streams[again].end.usage.cached_tokens, 40);
    again = world_sibling(w, b, 1);
    world_ask(w, again, 1);
    world_settle(w, 2000);
    assert_true(w->streams[again].end.usage.cached_tokens < 40);
    world_destroy(w);
}

static uint32_t cached_of_another(enum prefix_cache cache, uint32_t tenant) {
    struct world_options o = world_defaults();
    o.prefix_cache = cache;
    struct world *w = world_create(&o);
    uint32_t a = world_stream(w, 50, 5), b = world_sibling(w, a, 5);
    w->streams[a].tenant = 7;
    w->streams[b].tenant = tenant;
    world_ask(w, a, 1);
    world_settle(w, 2000);
    world_ask(w, b, 1);
    world_settle(w, 2000);
    world_assert_whole(w, b);
    uint32_t cached = w->streams[b].end.usage.cached_tokens;
    world_destroy(w);
    return cached;
}

static void tenants_share_only_where_the_configuration_says_so(void **state) {
    assert_int_equal(cached_of_another(PREFIX_CACHE_SHARED, 8), 48);
    assert_int_equal(cached_of_another(PREFIX_CACHE_TENANT, 7), 48);
    assert_int_equal(cached_of_another(PREFIX_CACHE_TENANT, 8), 0);
    assert_int_equal(cached_of_another(PREFIX_CACHE_OFF, 7), 0);
}

static void what_is_no_number_is_found_by_nobody(void **state) {
    struct world_options o = world_defaults();
    struct world *w = world_create(&o);
    uint32_t a = world_stream(w, 50, 5), b = world_sibling(w, a, 5);
    w->garble_next = true;
    world_ask(w, a, 1);
    world_settle(w, 2000);
    assert_int_equal(w->streams[a].end.finish, FINISH_ERROR);
    world_ask(w, b, 1);
    world_settle(w, 2000);
    assert_int_equal(w->streams[b].end.usage.cached_tokens, 0);
    world_assert_whole(w, b);
    assert_true(w->streams[b].end.error.id == ERR_NONE);
    world_destroy(w);
}

static void an_engine_that_was_lost_takes_the_prefixes_along(void **state) {
    struct world_options o = world_defaults();
    struct world *w = world_create(&o);
    uint32_t a = world_generate(w, 1, 50, 5);
    world_settle(w, 2000);
    assert_true(world_counters(w).blocks_kept > 0);
    worker_core_suspended(w->core, "a stage is gone", w->now);
    assert_int_equal(world_counters(w).blocks_kept, 0);
    fake_engine_empty(w->engine);
    worker_core_ready_to_serve(w->core, "f1", 1000, 1000, w->now);
    uint32_t b = world_sibling(w, a, 5);
    world_ask(w, b, 1);
    world_settle(w, 2000);
    assert_int_equal(w->streams[b].end.usage.cached_tokens, 0);
    world_destroy(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_prompt_is_computed_once_but_for_its_last_block),
        cmocka_unit_test(answers_to_one_prompt_that_come_together_prefill_it_once),
        cmocka_unit_test(a_prefill_that_is_cancelled_is_taken_up_by_who_waited_for_it),
        cmocka_unit_test(an_answer_is_part_of_the_next_turns_prefix),
        cmocka_unit_test(a_sequence_that_had_to_leave_finds_what_nobody_else_needed),
        cmocka_unit_test(the_prefix_that_was_used_longest_ago_goes_first),
        cmocka_unit_test(tenants_share_only_where_the_configuration_says_so),
        cmocka_unit_test(what_is_no_number_is_found_by_nobody),
        cmocka_unit_test(an_engine_that_was_lost_takes_the_prefixes_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
