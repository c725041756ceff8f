// exp, log, sine and cosine of our own, in plain double arithmetic: the same bits with every compiler and C library, which
// tables and sampling rest on (libm's differ between versions). Within 2 units in the last place over the ranges named.
#pragma once

// x in [-700, 700]; below -700 the answer is 0.
double math_exp(double x);
// x > 0 and normal.
double math_log(double x);
// base > 0.
double math_pow(double base, double exponent);
// |x| <= 2^20.
void math_sincos(double x, double *sine, double *cosine);
