// A load on a target: sends when the workload says (open loop: whatever the answers do) or when an answer has ended (closed
// loop), and measures. Latencies count from when a request was meant to begin, not from when it could be sent: else a server
// that stalls its callers would seem fast ("coordinated omission", Tene 2013). One loop, one thread.
#pragma once
#include "client/bench/samples.h"
#include "client/bench/target.h"
#include "client/bench/workload.h"

enum { LOAD_ERRORS_MAX = 16, LOAD_TICK_MS = 1000 };

struct load_objective {             // of a request that counts as good; 0: not asked for
    double ttft_ms, itl_ms, e2e_ms; // itl: the mean between its tokens
};

struct load_options {
    uv_loop_t *loop;
    struct workload_options workload;
    uint32_t concurrency; // closed loop: requests at once; 0: open loop
    uint64_t requests;    // 0: no limit
    double duration_s;    // of sending, warm-up included; 0: no limit. One of the two, or a trace
    double warmup_s;      // requests meant to begin before this are not measured
    struct load_objective objective;
    void (*on_progress)(void *ctx); // about four times a second; may be NULL
    void *ctx;
};

struct load_second { // of the run, for plots
    uint32_t sent, tokens, running;
};

struct load_error {
    char kind[48];
    uint64_t n;
};

struct load_result { // measured requests alone, except where it says "all"
    uint64_t sent_all, ended_all, running;
    uint64_t sent, complete, failed, good;
    uint64_t prompt_tokens, cached_tokens, output_tokens;
    double seconds;    // from the first measured request's time to the last end
    double lag_max_ms; // how late a request was sent at worst: a load generator that can't keep up shows here
    struct samples ttft, itl, e2e;
    uint32_t n_errors;
    struct load_error errors[LOAD_ERRORS_MAX]; // the last one collects what does not fit
    struct load_second *timeline;
    uint32_t n_timeline;
    bool interrupted;
};

struct load;

// The listener to make the target with; the target is given by load_run.
struct load *load_create(const struct load_options *options);
struct target_listener load_listener(struct load *l);
// Begins; on_end is called when all is over, from the loop.
void load_run(struct load *l, const struct target *target, void (*on_end)(void *ctx));
void load_interrupt(struct load *l); // sends no more and ends what is in progress
struct load_result *load_result(struct load *l);
double load_share_done(const struct load *l); // 0…1, for a progress bar
void load_destroy(struct load **l);           // the loop must run once more
