// Sequences that begin alike: what is computed once, what is kept, what is not to be found, and that it changes no token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include "tests/unit/worker/core/world.h"
#include "worker/core/suspend.h"
#include "worker/core/upkeep.h"

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

static struct world *world_with_store(struct fake_store *store) {
    struct world_options o = world_defaults();
    o.store = store;
    return world_create(&o);
}

// Saves all that is worth it. Returns how many prefixes that were.
static uint32_t save_all(struct world *w) {
    uint32_t before = w->n_prefixes;
    while (worker_core_save_prefix(w->core, w->now))
        for (uint32_t i = 0; i < 100 && worker_core_upkeep_busy(w->core); i++) world_turn(w, 1);
    assert_false(worker_core_upkeep_busy(w->core));
    return w->n_prefixes - before;
}

static void what_was_kept_comes_back_to_another_life(void **state) {
    struct fake_store *store = fake_store_create();
    struct world *w = world_with_store(store), *next = world_with_store(store);
    uint32_t a = world_generate(w, 1, 50, 5);
    world_settle(w, 2000);
    assert_int_equal(save_all(w), 1);
    assert_int_equal(save_all(w), 0); // written once
    assert_true(w->n_prefix >= 48);
    assert_int_equal(world_counters(w).prefixes_saved, 1);
    next->brought = "kept-0";
    assert_true(worker_core_bring_prefix(next->core, w->prefix, w->n_prefix, next->now));
    assert_false(worker_core_bring_prefix(next->core, w->prefix, w->n_prefix, next->now)); // one at a time
    for (uint32_t i = 0; i < 100 && worker_core_upkeep_busy(next->core); i++) world_turn(next, 1);
    assert_int_equal(world_counters(next).prefixes_restored, 1);
    assert_int_equal(save_all(next), 0);         // it is in the store
    uint32_t b = world_generate(next, 1, 50, 5); // the first stream of a world has the same prompt
    world_settle(next, 2000);
    assert_int_equal(next->streams[b].end.usage.cached_tokens, 48);
    world_assert_whole(next, b);
    assert_false(worker_core_bring_prefix(next->core, w->prefix, w->n_prefix, next->now)); // it is here
    world_assert_whole(w, a);
    world_destroy(w);
    world_destroy(next);
    fake_store_destroy(store);
}

static void a_prefix_that_cannot_be_read_is_computed(void **state) {
    struct fake_store *store = fake_store_create();
    struct world *w = world_with_store(store);
    uint32_t a = world_stream(w, 50, 5);
    w->brought = "kept-7"; // there is none
    assert_true(worker_core_bring_prefix(w->core, w->streams[a].prompt, 48, w->now));
    world_ask(w, a, 1);
    world_settle(w, 2000);
    assert_int_equal(w->streams[a].end.usage.cached_tokens, 0);
    assert_int_equal(world_counters(w).prefixes_restored, 0);
    world_assert_whole(w, a);
    world_destroy(w);
    fake_store_destroy(store);
}

// Whatever streams do meanwhile, and however little memory there is.
static void saving_under_load_changes_no_token(void **state) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fake_store *store = fake_store_create();
        struct world_options o = world_defaults();
        o.seed = seed;
        o.store = store;
        o.n_blocks = seed % 2 ? 30 : 200;
        o.max_context = 100;
        o.family_prefix = 40;
        o.plans_in_flight = 1 + (uint32_t)(seed % 3);
        struct world *w = world_create(&o);
        w->brought = "kept-0";
        fake_moves_fail(w->moves, seed % 5 == 0 ? 2 : 0, 0);
        for (uint32_t i = 0; i < 30; i++) {
            uint32_t s = world_generate(w, 1, 20 + world_random(w, 50), 1 + world_random(w, 20));
            world_turns(w, world_random(w, 10));
            worker_core_save_prefix(w->core, w->now);
            if (world_random(w, 4) == 0) world_cancel(w, s, 1);
            if (w->n_prefix > 0) worker_core_bring_prefix(w->core, w->prefix, w->n_prefix, w->now);
        }
        world_settle(w, 5000);
        for (uint32_t i = 0; i < 30; i++) world_assert_prefix(w, i);
        world_destroy(w);
        fake_store_destroy(store);
    }
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
        cmocka_unit_test(what_was_kept_comes_back_to_another_life),
        cmocka_unit_test(a_prefix_that_cannot_be_read_is_computed),
        cmocka_unit_test(saving_under_load_changes_no_token),
        cmocka_unit_test(an_engine_that_was_lost_takes_the_prefixes_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
