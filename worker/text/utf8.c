#include "worker/text/utf8.h"

#include <string.h>

size_t utf8_decode_strict(const char *s, size_t n, uint32_t *cp, size_t *bad, bool *cut) {
    const unsigned char *p = (const unsigned char *)s;
    *bad = 1, *cut = false;
    unsigned char lead = p[0], low = 0x80, high = 0xBF;
    size_t len;
    uint32_t value;
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    } else if (lead >= 0xC2 && lead <= 0xDF) {
        len = 2, value = lead & 0x1F;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        len = 3, value = lead & 0x0F;
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        len = 4, value = lead & 0x07;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
    } else {
        return 0;
    }
    for (size_t i = 1; i < len; i++, low = 0x80, high = 0xBF) {
        *bad = i;
        if (i == n) {
            *cut = true;
            return 0;
        }
        if (p[i] < low || p[i] > high) return 0;
        value = value << 6 | (p[i] & 0x3F);
    }
    *cp = value;
    return len;
}

size_t utf8_valid_prefix(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (i + 8 <= n && (memcpy(&eight, s + i, 8), (eight & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        uint32_t cp;
        size_t bad;
        bool cut;
        size_t len = utf8_decode_strict(s + i, n - i, &cp, &bad, &cut);
        if (len == 0) return i;
        i += len;
    }
    return n;
}

size_t utf8_append_lossy(struct buf *out, const char *s, size_t n, bool keep_cut) {
    while (n > 0) {
        size_t good = utf8_valid_prefix(s, n);
        buf_append(out, s, good);
        s += good, n -= good;
        if (n == 0) break;
        uint32_t cp;
        size_t bad;
        bool cut;
        utf8_decode_strict(s, n, &cp, &bad, &cut);
        if (cut && keep_cut) return n;
        buf_append(out, "\xEF\xBF\xBD", 3);
        s += bad, n -= bad;
    }
    return 0;
}

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6), out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12), out[1] = (char)(0x80 | (cp >> 6 & 0x3F)), out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18), out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F)), out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

void utf8_append(struct buf *out, uint32_t cp) {
    char bytes[4];
    buf_append(out, bytes, utf8_encode(cp, bytes));
}

size_t utf8_count(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

size_t utf8_prev(const char *s, size_t n) {
    size_t i = n - 1;
    while (i > 0 && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
    return i;
}
