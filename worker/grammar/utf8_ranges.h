// Ranges of code points as sequences of byte ranges in UTF-8 (RFC 3629; the splitting is that of R. Cox, "Regular Expression
// Matching in the Wild", 2010). Surrogates are no characters and fall out.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CODE_POINT_MAX = 0x10FFFF };

struct utf8_sequence {
    uint32_t n; // bytes
    uint8_t lo[4], hi[4];
};

// Calls `sequence` for every run of [lo, hi].
void utf8_ranges(uint32_t lo, uint32_t hi, void (*sequence)(void *ctx, const struct utf8_sequence *s), void *ctx);
// The first character of s[0..len) into *cp; its length, or 0 if it isn't whole valid UTF-8.
uint32_t utf8_read(const char *s, size_t len, uint32_t *cp);
