// The pure parts: route(), region choice, shares, admission, queue, heap, lengths. No core around them.
#include "common/base/check.h"
#include "common/base/hash.h"
#include "router/core/admission.h"
#include "router/core/due_heap.h"
#include "router/core/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// A deployment with pools and ready replicas, made by hand.
struct scene {
    struct deployment *d;
    struct candidate *candidates[16];
    uint32_t n;
};

static struct pool *add_pool(struct scene *s, const char *region, float weight, uint32_t spill_after_ms) {
    struct pool *p = xcalloc(1, sizeof *p);
    p->deployment = s->d;
    snprintf(p->region, NAME_SIZE, "%s", region);
    p->own_region = strcmp(region, "here") == 0;
    p->share.weight = weight;
    p->spill_after_ms = spill_after_ms;
    p->slowness = 1;
    p->stale = true;
    wait_queue_init(&p->queue);
    s->d->pools[s->d->n_pools++] = p;
    return p;
}

static struct offer *add_replica(struct scene *s, struct pool *p, const char *name, uint32_t slots, float prefill,
                                 float decode) {
    struct candidate *c = xcalloc(1, sizeof *c);
    c->link = (struct link *)c; // any: only whether there is one matters
    c->state = LIFECYCLE_READY;
    c->incarnation = 100 + s->n;
    snprintf(c->name, NAME_SIZE, "%s", name);
    struct offer *o = offer_create(c, p);
    o->status.info.max_seqs = slots;
    o->status.prefill_rate = prefill;
    o->status.decode_rate = decode;
    snprintf(o->status.info.fingerprint, FINGERPRINT_SIZE, "f");
    offer_refresh(o, 1);
    s->candidates[s->n++] = c;
    return o;
}

static void open_scene(struct scene *s) {
    *s = (struct scene){.d = xcalloc(1, sizeof(struct deployment))};
    wait_queue_init(&s->d->homeless);
}

static void close_scene(struct scene *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        s->candidates[i]->offers[0]->own = 0;
        offer_destroy(s->candidates[i]->offers[0]);
        free(s->candidates[i]);
    }
    deployment_destroy(s->d);
}

static struct route_request request(uint32_t prompt, uint32_t decode) {
    return (struct route_request){.prompt = prompt, .decode = decode, .budget_s = 1e9, .pin = "", .fingerprint = ""};
}

static void place(struct offer *o, uint32_t n, uint32_t prompt, uint32_t decode) {
    o->own += n;
    o->own_prompt += (uint64_t)n * prompt, o->own_decode += (uint64_t)n * decode;
    o->pool->own_prompt += (uint64_t)n * prompt, o->pool->own_decode += (uint64_t)n * decode;
}

static void the_least_expected_end_wins(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    struct offer *a = add_replica(&s, p, "a", 8, 1000, 100), *b = add_replica(&s, p, "b", 8, 1000, 100);
    struct route_request r = request(100, 50);
    place(a, 1, 0, 20);
    assert_ptr_equal(route(p, &r, 1).offer, b);
    place(b, 1, 300, 0); // 0.3 s of prompts against 0.2 s of tokens
    assert_ptr_equal(route(p, &r, 2).offer, a);
    b->status.decode_rate = 400;
    assert_ptr_equal(route(p, &r, 3).offer, b); // its service is shorter by more than that
    close_scene(&s);
}

static void equals_are_chosen_among_at_random_and_evenly(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    for (uint32_t i = 0; i < 4; i++) add_replica(&s, p, "x", 8, 1000, 100);
    struct route_request r = request(100, 50);
    uint32_t chosen[4] = {0};
    for (uint64_t i = 0; i < 4000; i++) {
        struct offer *o = route(p, &r, hash_mix(i + 1)).offer;
        for (uint32_t k = 0; k < 4; k++) chosen[k] += s.candidates[k]->offers[0] == o;
    }
    for (uint32_t k = 0; k < 4; k++) assert_in_range(chosen[k], 850, 1150);
    close_scene(&s);
}

static void full_candidates_make_it_wait_and_unusable_ones_send_it_away(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    struct offer *a = add_replica(&s, p, "a", 16, 1000, 100);
    struct route_request r = request(100, 50);
    place(a, 17, 0, 50);
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_PLACE);
    place(a, 1, 0, 50);
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_WAIT);
    a->candidate->suspect = true;
    offer_refresh(a, 2);
    assert_int_equal(p->usable, 0);
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_NOWHERE);
    close_scene(&s);
}

static void a_slow_candidate_is_left_until_waiting_would_take_longer(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    struct offer *fast = add_replica(&s, p, "fast", 8, 1e6, 800), *slow = add_replica(&s, p, "slow", 8, 1e6, 200);
    struct route_request r = request(1, 100); // 1 s on the fast one, 4 s on the slow
    assert_ptr_equal(route(p, &r, 1).offer, fast);
    place(fast, 9, 0, 100);
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_WAIT_FASTER);
    r.ahead_s = 2;
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_WAIT_FASTER);
    r.ahead_s = 3;
    assert_ptr_equal(route(p, &r, 1).offer, slow);
    r.budget_s = 4; // it would miss its deadline there, though it makes it neither way
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_PLACE);
    r.ahead_s = 2.8, r.budget_s = 3.99;
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_WAIT_FASTER);
    close_scene(&s);
}

static void pins_fingerprints_exclusions_and_suspects_are_kept_to(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    struct offer *a = add_replica(&s, p, "a", 8, 1000, 100), *b = add_replica(&s, p, "b", 8, 1000, 100);
    struct route_request r = request(100, 50);
    r.pin = "b";
    for (uint64_t i = 0; i < 20; i++) assert_ptr_equal(route(p, &r, hash_mix(i)).offer, b);
    r.pin = "c";
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_NOWHERE);
    r.pin = "";
    r.fingerprint = "g";
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_NOWHERE);
    snprintf(a->status.info.fingerprint, FINGERPRINT_SIZE, "g");
    assert_ptr_equal(route(p, &r, 1).offer, a);
    r.fingerprint = "";
    incarnation_t excluded = a->candidate->incarnation;
    r.n_excluded = 1, r.excluded = &excluded;
    for (uint64_t i = 0; i < 20; i++) assert_ptr_equal(route(p, &r, hash_mix(i)).offer, b);
    r.apart = true;
    b->candidate->unproven = 1;
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_WAIT);
    b->candidate->unproven = 0;
    assert_int_equal(route(p, &r, 1).verdict, ROUTE_PLACE);
    close_scene(&s);
}

static void a_region_that_waits_too_long_is_left_for_a_better_one(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *here = add_pool(&s, "here", 90, 1000), *there = add_pool(&s, "there", 10, 1000);
    struct offer *a = add_replica(&s, here, "a", 8, 1000, 100);
    add_replica(&s, there, "b", 8, 1000, 100);
    struct route_request r = request(10, 10);
    struct region_request g = {.route = &r, .work = 10};
    assert_ptr_equal(region_choose(s.d, &g), here);
    place(a, 4, 0, 50); // 2 s of work
    assert_ptr_equal(region_choose(s.d, &g), there);
    here->spill_after_ms = 0;
    assert_ptr_equal(region_choose(s.d, &g), here);
    a->candidate->suspect = true;
    offer_refresh(a, 2);
    assert_ptr_equal(region_choose(s.d, &g), there);
    close_scene(&s);
}

static void a_stream_with_a_checkpoint_goes_where_it_can_be_read(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *here = add_pool(&s, "here", 90, 0), *there = add_pool(&s, "there", 10, 0);
    struct offer *a = add_replica(&s, here, "a", 8, 1000, 100), *b = add_replica(&s, there, "b", 8, 1000, 100);
    snprintf(b->status.info.store, NAME_SIZE, "s");
    struct route_request r = request(10, 10);
    struct region_request g = {.route = &r, .work = 10, .stay = here};
    assert_ptr_equal(region_choose(s.d, &g), here);
    r.store = "s";
    assert_ptr_equal(region_choose(s.d, &g), there);
    snprintf(a->status.info.store, NAME_SIZE, "s"); // here as well: it stays
    assert_ptr_equal(region_choose(s.d, &g), here);
    a->status.info.store[0] = '\0';
    b->candidate->state = LIFECYCLE_DRAINING;
    offer_refresh(b, 2);
    assert_ptr_equal(region_choose(s.d, &g), here);
    close_scene(&s);
}

static void a_region_of_weight_zero_serves_only_when_no_other_can(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *here = add_pool(&s, "here", 0, 0), *there = add_pool(&s, "there", 1, 0);
    add_replica(&s, here, "a", 8, 1000, 100);
    struct offer *b = add_replica(&s, there, "b", 8, 1000, 100);
    struct route_request r = request(10, 10);
    struct region_request g = {.route = &r, .work = 10, .book = true};
    for (uint32_t i = 0; i < 50; i++) assert_ptr_equal(region_choose(s.d, &g), there);
    b->candidate->state = LIFECYCLE_DRAINING;
    offer_refresh(b, 2);
    assert_ptr_equal(region_choose(s.d, &g), here);
    close_scene(&s);
}

static void shares_hold_for_work_of_any_size_in_any_order(void **state) {
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct share parties[3] = {{.weight = 60}, {.weight = 30}, {.weight = 10}}, *p[3];
        bool able[3] = {true, true, true};
        double done[3] = {0}, all = 0, largest = 0;
        for (uint32_t i = 0; i < 3; i++) p[i] = &parties[i];
        for (uint64_t i = 0; i < 3000; i++) {
            double work = 1 + (double)(hash_mix(seed * 100000 + i) % 1000);
            int next = share_next(p, able, 3, work);
            share_book(p, able, 3, (uint32_t)next, work);
            done[next] += work, all += work;
            if (work > largest) largest = work;
        }
        for (uint32_t i = 0; i < 3; i++) {
            double owed = all * (double)parties[i].weight / 100;
            assert_true(done[i] > owed - 3 * largest && done[i] < owed + 3 * largest);
        }
    }
}

static void a_party_that_could_not_work_does_not_get_its_share_back(void **state) {
    struct share parties[2] = {{.weight = 50}, {.weight = 50}}, *p[2] = {&parties[0], &parties[1]};
    bool both[2] = {true, true}, one[2] = {true, false};
    for (uint32_t i = 0; i < 1000; i++) share_book(p, one, 2, (uint32_t)share_next(p, one, 2, 1), 1);
    uint32_t first = 0;
    for (uint32_t i = 0; i < 100; i++) {
        int next = share_next(p, both, 2, 1);
        share_book(p, both, 2, (uint32_t)next, 1);
        first += next == 0;
    }
    assert_in_range(first, 49, 51);
    for (uint32_t i = 0; i < 1000; i++) share_book(p, both, 2, 0, 1); // spilled to the first for long
    first = 0;
    for (uint32_t i = 0; i < 100; i++) {
        int next = share_next(p, both, 2, 1);
        share_book(p, both, 2, (uint32_t)next, 1);
        first += next == 0;
    }
    assert_in_range(first, 50 - SHARE_DEBT_MAX - 1, 50); // the debt is bounded
}

static void admission_counts_what_is_ahead_and_says_when_to_come_again(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    struct offer *a = add_replica(&s, p, "a", 4, 1000, 100);
    struct admission_limits limits = {.sessions_max = 10, .queue_max = 10, .queue_tokens_max = 1000};
    struct admission_request r = {.prompt = 100, .decode = 25, .budget_s = 2}; // service: 0.1 + 1 s
    struct error e = {0};
    uint32_t again;
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_NONE);
    place(a, 4, 0, 25); // one more second of work for all slots
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_OVERLOADED);
    assert_in_range(again, RETRY_AFTER_MIN_MS, 1000);
    r.budget_s = 3;
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_NONE);
    for (uint32_t i = 0; i < 1000; i++) admission_learn(p, 1, 1.5); // everything takes half as long again
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_OVERLOADED);
    r.unconditional = true;
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_NONE);
    limits.queued = 10;
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_OVERLOADED);
    close_scene(&s);
}

static void what_was_learned_under_load_does_not_shut_an_idle_pool(void **state) {
    struct scene s;
    open_scene(&s);
    struct pool *p = add_pool(&s, "here", 1, 0);
    add_replica(&s, p, "a", 4, 1000, 100);
    struct admission_limits limits = {.sessions_max = 10, .queue_max = 10, .queue_tokens_max = 1000};
    struct admission_request r = {.prompt = 100, .decode = 25, .budget_s = 1.5};
    struct error e = {0};
    uint32_t again;
    for (uint32_t i = 0; i < 1000; i++) admission_learn(p, 1, 4);
    assert_int_equal(admission_check(&limits, p, &r, &again, &e), ERR_NONE);
    close_scene(&s);
}

static void lengths_are_learned_by_what_was_asked(void **state) {
    struct output_length o = {0};
    assert_int_equal(output_length_expect(&o, 0), OUTPUT_FIRST_GUESS);
    assert_int_equal(output_length_expect(&o, 64), 64);
    assert_int_equal(output_length_expect(&o, 4096), OUTPUT_FIRST_GUESS);
    for (uint32_t i = 0; i < 200; i++) output_length_learn(&o, 64, 64), output_length_learn(&o, 4096, 1024);
    for (uint32_t i = 0; i < 200; i++) output_length_learn(&o, 0, 20);
    assert_int_equal(output_length_expect(&o, 64), 64);
    assert_int_equal(output_length_expect(&o, 4096), 1024);
    assert_int_equal(output_length_expect(&o, 0), 20);
    for (uint32_t i = 0; i < 200; i++) output_length_learn(&o, 1, 0);
    assert_int_equal(output_length_expect(&o, 1), 1);
    assert_int_equal(output_length_expect(&o, UINT32_MAX), OUTPUT_FIRST_GUESS);
}

static void the_heap_gives_times_back_in_order(void **state) {
    struct due_heap h = {0};
    static struct due dues[500];
    for (uint64_t i = 0; i < 500; i++) due_set(&h, &dues[i], (ms_t)(hash_mix(i) % 1000));
    for (uint64_t i = 0; i < 500; i += 3) due_set(&h, &dues[i], i % 2 ? MS_NEVER : (ms_t)(hash_mix(i + 9) % 1000));
    for (uint64_t i = 0; i < 500; i += 7) due_sooner(&h, &dues[i], 500);
    ms_t last = 0;
    uint32_t n = h.count, popped = 0;
    assert_null(due_pop(&h, -1));
    for (struct due *d; (d = due_pop(&h, 1000)) != NULL; popped++) {
        assert_true(d->at >= last && d->place == 0);
        last = d->at;
    }
    assert_int_equal(popped, n);
    assert_true(due_next(&h) == MS_NEVER);
    due_heap_free(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_expected_end_wins),
        cmocka_unit_test(equals_are_chosen_among_at_random_and_evenly),
        cmocka_unit_test(full_candidates_make_it_wait_and_unusable_ones_send_it_away),
        cmocka_unit_test(a_slow_candidate_is_left_until_waiting_would_take_longer),
        cmocka_unit_test(pins_fingerprints_exclusions_and_suspects_are_kept_to),
        cmocka_unit_test(a_region_that_waits_too_long_is_left_for_a_better_one),
        cmocka_unit_test(a_stream_with_a_checkpoint_goes_where_it_can_be_read),
        cmocka_unit_test(a_region_of_weight_zero_serves_only_when_no_other_can),
        cmocka_unit_test(shares_hold_for_work_of_any_size_in_any_order),
        cmocka_unit_test(a_party_that_could_not_work_does_not_get_its_share_back),
        cmocka_unit_test(admission_counts_what_is_ahead_and_says_when_to_come_again),
        cmocka_unit_test(what_was_learned_under_load_does_not_shut_an_idle_pool),
        cmocka_unit_test(lengths_are_learned_by_what_was_asked),
        cmocka_unit_test(the_heap_gives_times_back_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
