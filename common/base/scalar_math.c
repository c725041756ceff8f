// Classical range reduction and series. No fused multiply-add (the build says -ffp-contract=off), no tables.
#include "common/base/scalar_math.h"
#include <stdint.h>
#include <string.h>

static const double LN2_HI = 0x1.62e42fee00000p-1, LN2_LO = 0x1.a39ef35793c76p-33; // the high part times |k| < 2^11 is exact
static const double ROUND = 0x1.8p52; // adding and subtracting it rounds to the nearest integer

double math_exp(double x) {
    if (x < -700) return 0;
    double t = x * 0x1.71547652b82fep0 + ROUND; // x / ln 2
    double k = t - ROUND;
    double r = (x - k * LN2_HI) - k * LN2_LO;
    double sum = 1; // Horner form of sum r^n/n!, n <= 14, |r| <= 0.347
    for (int n = 14; n >= 1; n--) sum = 1 + sum * r / n;
    uint64_t bits = (uint64_t)((int64_t)k + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

double math_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int k = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) { // sqrt 2
        m *= 0.5;
        k++;
    }
    double f = (m - 1) / (m + 1), f2 = f * f; // log m = 2 atanh f, |f| <= 0.172
    double sum = 0;
    for (int n = 23; n >= 3; n -= 2) sum = (sum + 1.0 / n) * f2;
    return k * LN2_HI + (k * LN2_LO + 2 * (f + f * sum));
}

double math_pow(double base, double exponent) { return math_exp(exponent * math_log(base)); }

void math_sincos(double x, double *sine, double *cosine) {
    // pi/2 in three parts of at most 33 bits: k * part is exact for |k| < 2^20.
    static const double P1 = 0x1.921fb54400000p0, P2 = 0x1.0b4611a600000p-34, P3 = 0x1.3198a2e037073p-69;
    double k = (x * 0x1.45f306dc9c883p-1 + ROUND) - ROUND;
    double r = ((x - k * P1) - k * P2) - k * P3, r2 = r * r;
    double s = 1, c = 1; // sum (-1)^n r^2n / (2n+1)! and / (2n)!, |r| <= 0.786
    for (int n = 9; n >= 1; n--) {
        s = 1 - s * r2 / ((2.0 * n) * (2 * n + 1));
        c = 1 - c * r2 / ((2.0 * n - 1) * (2 * n));
    }
    s *= r;
    int64_t q = (int64_t)k & 3;
    *sine = q == 0 ? s : q == 1 ? c : q == 2 ? -s : -c;
    *cosine = q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s;
}
