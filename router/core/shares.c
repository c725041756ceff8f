#include "router/core/shares.h"

static double weight_sum(struct share *const *parties, const bool *able, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += able[i] ? parties[i]->weight : 0;
    return sum;
}

int share_next(struct share *const *parties, const bool *able, uint32_t n, double work) {
    double sum = weight_sum(parties, able, n), best = 0;
    int next = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (!able[i] || parties[i]->weight <= 0) continue;
        double balance = parties[i]->balance + work * parties[i]->weight / sum;
        if (next < 0 || balance > best) next = (int)i, best = balance;
    }
    return next;
}

void share_book(struct share *const *parties, const bool *able, uint32_t n, uint32_t chosen, double work) {
    double sum = weight_sum(parties, able, n), limit = work * SHARE_DEBT_MAX;
    if (sum <= 0) return;
    for (uint32_t i = 0; i < n; i++) {
        if (!able[i]) continue;
        struct share *p = parties[i];
        p->balance += work * p->weight / sum - (i == chosen ? work : 0);
        if (p->balance > limit) p->balance = limit;
        if (p->balance < -limit) p->balance = -limit;
    }
}
