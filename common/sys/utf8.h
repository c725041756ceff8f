// The little of UTF-8 that logs and metrics need: where a character ends, and whether it is one.
#pragma once
#include <stddef.h>

// The length of the well-formed character (RFC 3629) at s, of which n > 0 bytes are there; 0 when it is not well-formed.
static inline size_t utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0; // overlong; surrogates
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0; // overlong; beyond U+10FFFF
    return len;
}
