// Rotary position embeddings: from the config's scaling to an angle per position for each pair.
#include <math.h>
#include "common/base/scalar_math.h"
#include "worker/model/spec.h"

static const double PI = 3.14159265358979323846;

// Llama 3.1: long wavelengths are stretched by factor, short ones kept, between them a blend.
static double llama3(const struct rope_spec *r, double f) {
    double wavelength = 2 * PI / f;
    if (wavelength < r->original_context / r->high_freq_factor) return f;
    if (wavelength > r->original_context / r->low_freq_factor) return f / r->factor;
    double s = (r->original_context / wavelength - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1 - s) * f / r->factor + s * f;
}

// The pair (as a real number) that turns `rotations` times over the original context.
static double yarn_pair(const struct rope_spec *r, double rotations) {
    return r->dim * math_log(r->original_context / (rotations * 2 * PI)) / (2 * math_log(r->theta));
}

static void yarn_ramp(const struct rope_spec *r, double *low, double *high) {
    *low = yarn_pair(r, r->beta_fast);
    *high = yarn_pair(r, r->beta_slow);
    if (r->truncate) {
        *low = floor(*low);
        *high = ceil(*high);
    }
    *low = *low < 0 ? 0 : *low;
    *high = *high > r->dim - 1 ? r->dim - 1 : *high;
    if (*low == *high) *high += 0.001;
}

static double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * math_log(factor) + 1; }

void rope_frequencies(const struct rope_spec *r, double *frequency, double *factor) {
    double low = 0, high = 1;
    *factor = 1;
    if (r->kind == ROPE_YARN) {
        yarn_ramp(r, &low, &high);
        if (r->attention_factor > 0) {
            *factor = r->attention_factor;
        } else if (r->mscale > 0 && r->mscale_all_dim > 0) {
            *factor = yarn_mscale(r->factor, r->mscale) / yarn_mscale(r->factor, r->mscale_all_dim);
        } else {
            *factor = yarn_mscale(r->factor, 1);
        }
    }
    for (uint32_t i = 0; i < r->dim / 2; i++) {
        double f = math_pow(r->theta, -2.0 * i / r->dim);
        if (r->kind == ROPE_LINEAR) f /= r->factor;
        if (r->kind == ROPE_LLAMA3) f = llama3(r, f);
        if (r->kind == ROPE_YARN) {
            double ramp = (i - low) / (high - low);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            f = f / r->factor * ramp + f * (1 - ramp);
        }
        frequency[i] = f;
    }
}

double rope_scale_correction(const struct rope_spec *r) {
    if (r->kind != ROPE_YARN || r->mscale_all_dim <= 0) return 1;
    double m = yarn_mscale(r->factor, r->mscale_all_dim);
    return m * m;
}
