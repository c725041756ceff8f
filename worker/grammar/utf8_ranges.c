// A range of code points is cut where its encodings change their length or stop being a product of byte ranges.
#include "worker/grammar/utf8_ranges.h"

static uint32_t encode(uint32_t cp, uint8_t out[4]) {
    if (cp < 0x80) return out[0] = (uint8_t)cp, 1;
    uint32_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (uint32_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (uint8_t)(0x80 | (cp & 0x3F));
    out[0] = (uint8_t)((0xF00u >> n & 0xFF) | cp);
    return n;
}

// The end of the largest aligned piece that starts at lo: then all bytes but one run through all their values.
static uint32_t piece_end(uint32_t lo, uint32_t hi) {
    static const uint32_t LAST[] = {0x7F, 0x7FF, 0xD7FF, 0xFFFF, CODE_POINT_MAX};
    for (uint32_t i = 0; i < 5; i++) {
        if (lo > LAST[i]) continue;
        if (hi > LAST[i]) hi = LAST[i];
        break;
    }
    if (hi < 0x80) return hi;
    for (uint32_t shift = 6; shift <= 18; shift += 6) {
        uint32_t m = (UINT32_C(1) << shift) - 1;
        if ((lo & ~m) == (hi & ~m)) return hi; // differ in the low bytes alone
        if ((lo & m) != 0) return lo | m;      // up to the next boundary
        if ((hi & m) != m) hi = (hi & ~m) - 1; // whole blocks first
    }
    return hi;
}

void utf8_ranges(uint32_t lo, uint32_t hi, void (*sequence)(void *ctx, const struct utf8_sequence *s), void *ctx) {
    if (hi > CODE_POINT_MAX) hi = CODE_POINT_MAX;
    while (lo <= hi) {
        if (lo >= 0xD800 && lo <= 0xDFFF) {
            lo = 0xE000;
            continue;
        }
        uint32_t end = piece_end(lo, hi);
        struct utf8_sequence s;
        s.n = encode(lo, s.lo);
        encode(end, s.hi);
        sequence(ctx, &s);
        lo = end + 1;
    }
}

uint32_t utf8_read(const char *text, size_t len, uint32_t *cp) {
    const uint8_t *s = (const uint8_t *)text;
    if (len == 0) return 0;
    if (s[0] < 0x80) return *cp = s[0], 1;
    uint32_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || len < n) return 0;
    uint32_t c = s[0] & (0x7Fu >> n);
    for (uint32_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3F);
    }
    if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > CODE_POINT_MAX)) || (c >= 0xD800 && c <= 0xDFFF)) return 0;
    return *cp = c, n;
}
