// How many prompt tokens a step may take along, so that those who wait for their next token get it in time: as many as the
// measured cost of steps (step_model.h) lets into the target beside the answers' rows. Running answers are never held back;
// what the target can't hold of prompts waits for the next step, but for a few tokens, so that prompts always get on. Where
// the answers' rows alone take more than FULL of the target, the worker runs more of them than the target allows
// (--max-seqs), and prompts get as much time as they: their streams would wait too long otherwise.
//
// The target is meant for the 99th percentile, while the model learns a mean: `slack` follows, step by step, the 98th
// percentile of measured over expected time (Robbins and Monro's stochastic approximation of a quantile).
#pragma once
#include "worker/core/step_model.h"

enum { PACE_LEAST_TOKENS = 16 };

struct pace {
    struct step_model model;
    uint32_t target_us; // 0: no target
    double slack;       // ≥ 1
};

void pace_init(struct pace *p, uint32_t target_us, uint32_t rows_max, uint32_t tokens_max);
// One of `batches` steps that together make a token for each running answer (1 without a pipeline) has so many of their
// rows; it may take this many prompt tokens along, `most` if there is no reason for less.
uint32_t pace_prompt_tokens(const struct pace *p, uint32_t decode_rows, uint32_t batches, uint32_t most);
void pace_learn(struct pace *p, uint32_t decode_rows, uint32_t prefill_tokens, uint32_t took_us);
