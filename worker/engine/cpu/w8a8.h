// The second numeric class of FP8 checkpoints: activations are made e4m3 before a product with an FP8 matrix, every 128 of a
// vector with a scale of their own, greatest magnitude / 448, as the reference does on GPUs (DeepSeek-V3, arXiv 2412.19437,
// 3.3). Here each becomes the fp32 value that its e4m3 and scale mean, so that the products are those of the other class.
#pragma once
#include "worker/engine/cpu/forward.h"

// n values in place.
void w8a8_round(float *x, uint32_t n);
// The vectors that w is about to take, in this class and if w is an FP8 matrix. Their packed form stays: what reads it is no
// FP8 matrix.
void w8a8_round_for(struct forward *f, struct vectors *v, uint32_t rows, const struct matrix *w);
