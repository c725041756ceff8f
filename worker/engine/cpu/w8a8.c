#include "worker/engine/cpu/w8a8.h"
#include <math.h>
#include <string.h>
#include "worker/engine/cpu/kernels.h"

static const float E4M3_MOST = 448, E4M3_NORMAL = 0x1p-6f;

// The nearest e4m3 value, ties to even; |x| at most a little above 448.
static float to_e4m3(float x) {
    if (fabsf(x) < E4M3_NORMAL) return (x + 0x1.8p14f) - 0x1.8p14f; // multiples of 2^-9
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u += 0x7ffff + (u >> 20 & 1);
    u &= ~UINT32_C(0xfffff);
    memcpy(&x, &u, sizeof x);
    return x;
}

static void round_group(float *x, uint32_t n) {
    float most = 0;
    for (uint32_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float scale = most / E4M3_MOST;
    if (!(scale > 0) || !isfinite(scale)) return; // nothing to round; what isn't finite is found at the logits
    for (uint32_t i = 0; i < n; i++) x[i] = isnan(x[i]) ? x[i] : to_e4m3(x[i] / scale) * scale;
}

void w8a8_round(float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i += W8A8_GROUP) round_group(x + i, n - i < W8A8_GROUP ? n - i : W8A8_GROUP);
}

struct round_pass {
    struct vectors *v;
    uint32_t n;
};

static void round_rows(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct round_pass *p = context;
    for (uint32_t r = begin; r < end; r++) w8a8_round(p->v->f + r * p->v->ld, p->n);
}

void w8a8_round_for(struct forward *f, struct vectors *v, uint32_t rows, const struct matrix *w) {
    struct round_pass p = {v, w->k};
    if (f->w8a8 && w->form == FORM_F8) pool_for(f->pool, rows, 4, round_rows, &p);
}
