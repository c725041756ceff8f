// UTF-8 as text rooms need it: decoding one code point at a time, counting, validating, and repairing what is not UTF-8.
// Repair replaces each maximal ill-formed part by one U+FFFD (Unicode 15, table 3-8), as Python's errors="replace" and
// Rust's from_utf8_lossy do. Pure functions, any thread.
#pragma once
#include "common/base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Decodes the code point at s (n > 0 bytes available). Well-formed: returns its length 1..4 and *cp. Ill-formed: returns 0
// and *bad = length of the maximal ill-formed part (1..3). Cut off by the end: returns 0, *bad = n, *cut = true.
size_t utf8_decode_strict(const char *s, size_t n, uint32_t *cp, size_t *bad, bool *cut);

// Decodes valid UTF-8; never reads past n. On invalid input it returns 1 and U+FFFD, so that loops always advance.
static inline size_t utf8_next(const char *s, size_t n, uint32_t *cp) {
    unsigned char c = (unsigned char)s[0];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    size_t bad;
    bool cut;
    size_t len = utf8_decode_strict(s, n, cp, &bad, &cut);
    if (len > 0) return len;
    *cp = 0xFFFD;
    return 1;
}

// Length of the valid prefix; == n when all is valid.
size_t utf8_valid_prefix(const char *s, size_t n);
// Appends s to out with ill-formed parts replaced. With keep_cut, a code point cut off by the end is left out, and the
// number of its bytes (0..3) is returned; otherwise it is replaced too and 0 is returned.
size_t utf8_append_lossy(struct buf *out, const char *s, size_t n, bool keep_cut);

size_t utf8_encode(uint32_t cp, char out[4]); // cp is a scalar value
void utf8_append(struct buf *out, uint32_t cp);
size_t utf8_count(const char *s, size_t n); // code points in valid UTF-8
// Start of the code point that ends at s + n (n > 0), in valid UTF-8.
size_t utf8_prev(const char *s, size_t n);
