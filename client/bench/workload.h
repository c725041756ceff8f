// What a load asks, and when: a pure function of options, seed and the request's number, so that two runs ask the same.
// Prompts are common words, about one token each; how many tokens they really were is the server's to say.
#pragma once
#include "client/bench/trace.h"
#include "common/base/buf.h"

struct workload_range { // uniform, both ends included
    uint32_t low, high;
};

struct workload_options {
    uint64_t seed;
    double rate;               // requests per second, as a Poisson process; 0: closed loop, or the trace's times
    const struct trace *trace; // or NULL. Lengths and times come from it
    double speed;              // of the trace's time: 2 is twice as fast
    struct workload_range prompt_tokens, output_tokens;
    uint32_t prefix_tokens; // of a prompt are one of
    uint32_t prefixes;      // so many beginnings; 0: none is shared
};

struct workload_request {
    double at_s; // when it is meant to begin, since the start; 0 in a closed loop
    uint32_t prompt_words, output_tokens;
};

struct workload {
    struct workload_options options;
    uint64_t next; // its number
    double at_s;
};

void workload_init(struct workload *w, const struct workload_options *options);
// The next request, with its prompt appended to `prompt`. False: the trace is at its end.
bool workload_next(struct workload *w, struct workload_request *out, struct buf *prompt);
// "128" or "64-512". False: neither.
bool workload_range_parse(const char *text, struct workload_range *out);
