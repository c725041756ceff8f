// How long answers turn out to be: a running mean of what requests used of the max_tokens they asked for, by the size of
// max_tokens (powers of two), so that a benchmark that always runs to its limit and a chat that never does are both
// foreseen. One per deployment.
#pragma once
#include <stdint.h>

enum { OUTPUT_CLASSES = 21, OUTPUT_FIRST_GUESS = 256, OUTPUT_MEMORY = 32 };

struct output_length {
    float mean[OUTPUT_CLASSES]; // class 0: tokens, of requests without a limit; others: fraction of max_tokens used
    uint32_t count[OUTPUT_CLASSES];
};

// Tokens expected of a request with this limit (0: none given), at least 1 and at most max_tokens. A class without
// experience is guessed to use all of it up to OUTPUT_FIRST_GUESS tokens.
uint32_t output_length_expect(const struct output_length *o, uint32_t max_tokens);
void output_length_learn(struct output_length *o, uint32_t max_tokens, uint32_t tokens);
