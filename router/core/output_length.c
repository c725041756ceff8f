#include "router/core/output_length.h"

static uint32_t class_of(uint32_t max_tokens) {
    uint32_t k = max_tokens ? 32 - (uint32_t)__builtin_clz(max_tokens) : 0;
    return k < OUTPUT_CLASSES ? k : OUTPUT_CLASSES - 1;
}

uint32_t output_length_expect(const struct output_length *o, uint32_t max_tokens) {
    uint32_t k = class_of(max_tokens);
    float tokens = o->count[k] == 0 ? OUTPUT_FIRST_GUESS : max_tokens ? o->mean[k] * (float)max_tokens : o->mean[k];
    if (tokens < 1) tokens = 1;
    if (max_tokens && tokens > (float)max_tokens) return max_tokens;
    return (uint32_t)(tokens + 0.5f);
}

void output_length_learn(struct output_length *o, uint32_t max_tokens, uint32_t tokens) {
    uint32_t k = class_of(max_tokens);
    float value = max_tokens ? (float)tokens / (float)max_tokens : (float)tokens;
    uint32_t n = o->count[k] < OUTPUT_MEMORY ? ++o->count[k] : OUTPUT_MEMORY;
    o->mean[k] += (value - o->mean[k]) / (float)n;
}
