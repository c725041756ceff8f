// Durations that were measured, and their quantiles. Exact up to SAMPLES_MAX of them; beyond that a uniform sample of as
// many (reservoir sampling: Vitter, "Random sampling with a reservoir", TOMS 1985, algorithm R), so memory is bounded.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { SAMPLES_MAX = 8 << 20 };

struct samples { // zero is empty
    float *ms;
    uint32_t n, capacity;
    uint64_t seen; // n ≤ seen
    double sum;
    float max;
    bool sorted;
};

void samples_add(struct samples *s, double ms);
// q in 0…1, linear between neighbours (numpy's default); 0 when there are none.
double samples_quantile(struct samples *s, double q);
double samples_mean(const struct samples *s);
void samples_free(struct samples *s);
