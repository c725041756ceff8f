// What a step will take, learned from steps that ran: a fixed part, a part per token and one per attended position.
#pragma once
#include <stdint.h>
#include "worker/engine/types.h"

struct cost {
    double fixed_us, token_us, attended_us;
};

// macs: multiply-adds per token and per attended position, which tie the two parts together.
void cost_init(struct cost *c, double token_macs, double attended_macs);
void cost_learn(struct cost *c, const struct engine_load *load, double took_us);
uint32_t cost_us(const struct cost *c, const struct engine_load *load);
