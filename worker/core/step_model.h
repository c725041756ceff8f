// How long a step takes, learned from steps: t = a + b·decode_rows + c·prefill_tokens, by least squares with forgetting.
// From it come the rates that routers reckon waiting times with.
#pragma once
#include <stdint.h>

enum { STEP_MODEL_TERMS = 3 };

struct step_model {
    double scale[STEP_MODEL_TERMS];                     // of the terms, so that all are about 1
    double moments[STEP_MODEL_TERMS][STEP_MODEL_TERMS]; // of the terms of past steps, forgotten exponentially
    double targets[STEP_MODEL_TERMS];
    double theta[STEP_MODEL_TERMS]; // microseconds: a, b·rows_max, c·tokens_max
};

// rows_max: sequences that a step may hold; tokens_max: tokens that it may hold.
void step_model_init(struct step_model *m, uint32_t rows_max, uint32_t tokens_max);
// What to believe until something was measured: tokens per second, and the time of a step that decodes one row (0: all of
// its time grows with the rows). Rates that are not positive leave things alone.
void step_model_guess(struct step_model *m, float prefill_rate, float decode_rate, uint32_t lone_us);
void step_model_learn(struct step_model *m, uint32_t decode_rows, uint32_t prefill_tokens, uint32_t took_us);
// Tokens per second: 1/c, and rows_max rows decoded at once. Always positive and finite.
float step_model_prefill_rate(const struct step_model *m);
float step_model_decode_rate(const struct step_model *m);
// Expected time of a step that decodes so many rows and prefills nothing.
float step_model_decode_us(const struct step_model *m, uint32_t rows);
