// Where work goes, seen from outside: shares of regions, a slow worker among fast ones, overload, losses under load.
#include "tests/unit/router/core/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void two_regions(struct router_core_options *o) {
    world_options(o);
    o->n_regions = 2;
    o->regions[0] = (struct router_region){.name = "here", .weight = 70, .spill_after_ms = 5000};
    o->regions[1] = (struct router_region){.name = "there", .weight = 30, .spill_after_ms = 5000};
}

static void weights_hold_over_5000_short_requests_in_bursts_of_200(void **state) {
    struct router_core_options o;
    struct world w;
    two_regions(&o);
    world_init(&w, &o);
    w.latency_ms = 8;
    world_server(&w, &(struct server_options){"w1", "here", ROLE_WORKER, 16, 20000, 5, NULL, NULL});
    world_server(&w, &(struct server_options){"w2", "here", ROLE_WORKER, 16, 20000, 9, NULL, NULL});
    world_server(&w, &(struct server_options){"r2", "there", ROLE_ROUTER, 16, 9000, 7, NULL, NULL});
    world_run(&w, 300);
    for (uint32_t burst = 0; burst < 25; burst++) {
        for (uint32_t i = 0; i < 200; i++) world_submit(&w, "m", 4 + (i * 7 + burst) % 9, 4 + (i * 7 + burst) % 9, 100, 0);
        world_run(&w, burst % 3 ? 100 : 900);
    }
    world_finish(&w, 60000);
    assert_int_equal(w.n_done, 5000);
    double here = w.servers[0].served + w.servers[1].served, share = here / 5000;
    print_message("share of the region weighted 70: %.2f %%\n", share * 100);
    assert_true(share > 0.68 && share < 0.72);
    world_fini(&w);
}

static void weights_hold_between_requests_when_one_waits_for_the_other(void **state) {
    struct router_core_options o;
    struct world w;
    two_regions(&o);
    world_init(&w, &o);
    w.latency_ms = 2;
    world_server(&w, &(struct server_options){"w1", "here", ROLE_WORKER, 4, 20000, 5, NULL, NULL});
    world_server(&w, &(struct server_options){"r2", "there", ROLE_ROUTER, 4, 9000, 5, NULL, NULL});
    world_run(&w, 300);
    for (uint32_t i = 0; i < 1000; i++) {
        world_submit(&w, "m", 2, 2, 100, 0);
        world_run(&w, 20);
    }
    world_finish(&w, 60000);
    double share = w.servers[0].served / 1000.0;
    assert_true(share > 0.69 && share < 0.71);
    world_fini(&w);
}

static void no_request_fails_when_one_region_loses_its_workers_and_the_share_comes_back_after(void **state) {
    struct router_core_options o;
    struct world w;
    two_regions(&o);
    world_init(&w, &o);
    w.latency_ms = 8;
    world_server(&w, &(struct server_options){"w1", "here", ROLE_WORKER, 16, 20000, 5, NULL, NULL});
    world_server(&w, &(struct server_options){"r2", "there", ROLE_ROUTER, 16, 20000, 5, NULL, NULL});
    world_run(&w, 300);
    for (uint32_t burst = 0; burst < 30; burst++) {
        for (uint32_t i = 0; i < 100; i++) world_submit(&w, "m", 8, 8, 100, 0);
        world_run(&w, 30);
        if (burst == 10) world_kill(&w, &w.servers[0]);
        if (burst == 15) world_revive(&w, &w.servers[0]);
        world_run(&w, 470);
        if (burst == 20) w.servers[0].served = w.servers[1].served = 0;
    }
    world_finish(&w, 60000);
    assert_int_equal(w.n_done, 3000);
    double share = (double)w.servers[0].served / (w.servers[0].served + w.servers[1].served);
    assert_true(share > 0.67 && share < 0.73);
    world_fini(&w);
}

// 200 requests at once over four workers, one of them at a quarter of the others' rate.
static void burst_over_four(uint32_t slots, uint32_t tokens, uint32_t latency_ms) {
    struct router_core_options o;
    struct world w;
    world_options(&o);
    world_init(&w, &o);
    w.latency_ms = latency_ms;
    for (uint32_t i = 0; i < 4; i++) {
        static const char *const names[] = {"w1", "w2", "w3", "w4"};
        uint32_t slower = i == 3 ? 4 : 1;
        world_server(
            &w, &(struct server_options){names[i], "here", ROLE_WORKER, slots, 4000.0 / slower, 10 * slower, NULL, NULL});
    }
    world_run(&w, 200);
    ms_t start = w.now;
    for (uint32_t i = 0; i < 200; i++) world_submit(&w, "m", tokens, tokens, 200, 0);
    world_finish(&w, 600000);
    ms_t first = MS_NEVER, last = 0;
    for (uint32_t i = 0; i < 4; i++) {
        ms_t took = w.servers[i].finished_at - start;
        if (took < first) first = took;
        if (took > last) last = took;
    }
    print_message("slots %u tokens %u: served %u %u %u %u, ended after %.2f..%.2f s\n", slots, tokens, w.servers[0].served,
                  w.servers[1].served, w.servers[2].served, w.servers[3].served, (double)first / 1000, (double)last / 1000);
    assert_true(w.servers[3].served > 0);
    assert_true((double)last <= 1.2 * (double)first);
    world_fini(&w);
}

static void a_worker_at_a_quarter_of_the_rate_ends_a_burst_with_the_others(void **state) {
    burst_over_four(4, 40, 2);
    burst_over_four(8, 40, 2);
    burst_over_four(8, 100, 10);
    burst_over_four(2, 20, 0);
    burst_over_four(8, 20, 0);
}

static void steady_overload(uint32_t workers, uint32_t slots, uint32_t tokens, uint32_t deadline_ms, uint32_t seconds) {
    struct router_core_options o;
    struct world w;
    world_options(&o);
    world_init(&w, &o);
    w.latency_ms = 4;
    for (uint32_t i = 0; i < workers; i++) {
        static const char *const names[] = {"w1", "w2", "w3", "w4"};
        world_server(&w, &(struct server_options){names[i], "here", ROLE_WORKER, slots, 20000, 10, NULL, NULL});
    }
    world_run(&w, 200);
    double per_request_s = 25 / 20000.0 / slots + tokens * 0.010; // in one slot
    double capacity = workers * slots / per_request_s;            // requests per second
    double owed = 0;
    ms_t start = w.now;
    for (uint32_t i = 0; i < seconds * 1000; i++) {
        for (owed += 3 * capacity / 1000; owed >= 1; owed -= 1) world_submit(&w, "m", tokens, tokens, 100, deadline_ms);
        world_run(&w, 1);
    }
    uint32_t done_in_time = 0, late = 0;
    for (uint32_t i = 0; i < w.n_requests; i++) {
        const struct request *r = &w.requests[i];
        if (r->refused) assert_true(r->error == ERR_OVERLOADED && r->retry_after_ms > 0 && r->ended_at == r->submitted_at);
        done_in_time += r->done && !r->late && r->ended_at > start + deadline_ms;
    }
    double goodput = done_in_time / (double)(seconds - deadline_ms / 1000.0);
    world_finish(&w, 60000);
    for (uint32_t i = 0; i < w.n_requests; i++) late += w.requests[i].late || w.requests[i].failed;
    uint32_t admitted = w.n_requests - w.n_refused;
    print_message("goodput %.1f of %.1f per s (%.1f %%), %u of %u accepted were late (%.2f %%)\n", goodput, capacity,
                  100 * goodput / capacity, late, admitted, 100.0 * late / admitted);
    assert_true(goodput >= 0.95 * capacity);
    assert_true(late < 0.01 * admitted);
    world_fini(&w);
}

static void three_times_the_capacity_is_refused_at_once_and_what_is_accepted_is_in_time(void **state) {
    steady_overload(4, 8, 50, 3000, 60);
    steady_overload(2, 4, 20, 1000, 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_hold_over_5000_short_requests_in_bursts_of_200),
        cmocka_unit_test(weights_hold_between_requests_when_one_waits_for_the_other),
        cmocka_unit_test(no_request_fails_when_one_region_loses_its_workers_and_the_share_comes_back_after),
        cmocka_unit_test(a_worker_at_a_quarter_of_the_rate_ends_a_burst_with_the_others),
        cmocka_unit_test(three_times_the_capacity_is_refused_at_once_and_what_is_accepted_is_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
