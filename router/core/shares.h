// Weights as a long-run share of work, not as dice. Each party has a balance in units of work. Work that arrives is earned
// by all parties that may do it, in proportion to their weights, and spent by the one that does it; the one with the highest
// balance is next. So the balances sum to zero, no party is ever off its share by more than about one piece of work,
// whatever the order and size of bursts, and a party that can't work earns nothing meanwhile. (Smooth weighted round robin,
// counted in work instead of turns.) What is spilled to another party is a debt that is clamped to SHARE_DEBT_MAX pieces, so
// an hour of spilling is not paid back by an hour of the opposite.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { SHARES_MAX = 16, SHARE_DEBT_MAX = 32 };

struct share {
    float weight;
    double balance; // work
};

// Which of the n parties should do a piece of work: the highest balance after earning, among `able` ones of weight > 0.
// Ties go to the first. -1: none. Nothing is changed.
int share_next(struct share *const *parties, const bool *able, uint32_t n, double work);
// Books it: the able ones earn, `chosen` spends (it may be one of weight 0 or another than share_next said: spilling).
void share_book(struct share *const *parties, const bool *able, uint32_t n, uint32_t chosen, double work);
