// What a seed draws for itself ("swarm"): which faults are on and how often, how small every limit is, how fast everything
// runs. So that no seed tests the average cluster, and together they test all kinds.
#pragma once
#include "tests/sim/options.h"
#include "tests/sim/rng.h"
#include "common/delivery/link_health.h"
#include "worker/core/worker_core.h"

struct params {
    uint32_t faults; // drawn from those allowed
    // clock
    us_t loop_delay_us; // between an event and the turn of a process's loop that follows
    us_t safety_end, arrivals_end;
    // network
    us_t latency_us[SIM_REGIONS_MAX][SIM_REGIONS_MAX];
    double jitter;      // of the latency
    double lose, twice; // per message
    uint32_t lose_kind; // one kind of message (enum msg_kind) that is lost more often; 0: none
    double lose_kind_p;
    double die_of_it;                                             // the sender of such a one dies, once it is lost
    double reset_s, stall_s, pause_s, partition_s, kill_s;        // mean time between; 0: never
    double stall_max_s, pause_max_s, partition_max_s, down_max_s; // longest
    double drain;                                                 // of kills are drains
    double engine_fails;                                          // of kills of workers
    uint32_t drain_max_ms;
    double notice_s;     // mean time between notices; 0: never
    double group_s;      // between losses of a member of a replica of several processes; 0: never
    double reform_max_s; // until it is whole again
    double store_torn, store_lost, store_flip, store_full, store_slow, store_slow_max_s;
    uint32_t router_odd, worker_odd; // points of enum router_odd and worker_odd that fire
    uint32_t odd_one_in;
    double silent_close; // of broken connections, one end is not told
    // both cores
    struct link_timers timers;
    uint32_t status_full_ms;
    // routers
    uint32_t sessions_max, queue_max, deadline_default_ms;
    uint64_t queue_tokens_max, held_bytes_max;
    uint32_t spill_after_ms;
    float weights[SIM_REGIONS_MAX];
    // workers
    uint32_t max_seqs, spare_slots, block_tokens, n_blocks, step_tokens, chunk_tokens, plans_in_flight, micro_batches,
        max_context, worker_queue_max;
    enum prefix_cache prefix_cache;
    uint32_t orphan_tokens, grace_ms, lease_ms;
    uint32_t n_stores; // 0: none; 1: all share it; 2: two, by turns
    bool shell_checks; // the shell refuses prompts that are too long; else the core does
    us_t load_max_us, prepare_max_us;
    us_t step_us;        // of a decode step
    double prefill_rate; // tokens per second
    bool one_slow;       // the last worker runs at a quarter of that
    // workload
    uint32_t n_models, n_deployments; // deployments: of each model
    double rate;                      // per second, with all workers up
    double burst_s;                   // mean time between bursts; 0: none
    uint32_t burst_max;
    uint32_t stop_one_in; // a token that ends the answer; 0: none does
    double prefix_share;  // of prompts, begin with a common prefix
    uint32_t prefix_families;
    double siblings; // of requests are one choice of several
    double cancel, keep, pin, poison, nan, alias, query;
    bool salted;            // tokens depend on who computes them. Else HTTP clients may
    double returns, breaks; // opt in to coming back; and their connections break
};

void params_draw(struct params *p, const struct sim_options *o, uint64_t seed);
// Tokens of prompt and answer that a sequence can have: the context, or what the blocks hold.
uint32_t params_context(const struct params *p);
// Microseconds that a request takes on an idle worker, there and back.
us_t params_service_us(const struct params *p, uint32_t prompt_tokens, uint32_t answer_tokens);
// Requests per second that n such workers can serve.
double params_capacity(const struct params *p, uint32_t n_workers);
