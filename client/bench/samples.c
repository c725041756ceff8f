#include "client/bench/samples.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <stdlib.h>

void samples_add(struct samples *s, double ms) {
    s->seen++;
    s->sum += ms;
    if (s->seen == 1 || (float)ms > s->max) s->max = (float)ms;
    s->sorted = false;
    if (s->n < SAMPLES_MAX) {
        if (s->n == s->capacity) {
            s->capacity = s->capacity ? s->capacity * 2 : 1024;
            s->ms = xrealloc(s->ms, s->capacity * sizeof *s->ms);
        }
        s->ms[s->n++] = (float)ms;
        return;
    }
    uint64_t place = hash_mix(s->seen) % s->seen;
    if (place < SAMPLES_MAX) s->ms[place] = (float)ms;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double samples_quantile(struct samples *s, double q) {
    if (s->n == 0) return 0;
    if (!s->sorted) qsort(s->ms, s->n, sizeof *s->ms, ascending);
    s->sorted = true;
    double at = q * (s->n - 1);
    uint32_t below = (uint32_t)at, above = below + 1 < s->n ? below + 1 : below;
    return s->ms[below] + (at - below) * (s->ms[above] - s->ms[below]);
}

double samples_mean(const struct samples *s) { return s->seen ? s->sum / (double)s->seen : 0; }

void samples_free(struct samples *s) {
    free(s->ms);
    *s = (struct samples){0};
}
