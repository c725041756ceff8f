#include "worker/text/byte_level.h"

#include "worker/text/utf8.h"

// Bytes that stand for themselves come first in the rule; the other 68 are numbered in order of value.
uint32_t byte_level_char(unsigned char byte) {
    if (byte <= 0x20) return 0x100 + byte;
    if (byte < 0x7F) return byte;
    if (byte <= 0xA0) return 0x100 + 33 + (byte - 0x7Fu);
    return byte == 0xAD ? 0x143 : byte;
}

int byte_level_byte(uint32_t cp) {
    if (cp > 0x20 && cp < 0x7F) return (int)cp;
    if (cp > 0xA0 && cp <= 0xFF && cp != 0xAD) return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    if (cp <= 0x120) return (int)cp - 0x100;
    return cp == 0x143 ? 0xAD : (int)cp - 0x121 + 0x7F;
}

void byte_level_encode(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n; i++) utf8_append(out, byte_level_char((unsigned char)s[i]));
}

bool byte_level_decode(const char *s, size_t n, struct buf *out) {
    size_t before = out->len;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_next(s + i, n - i, &cp);
        int byte = byte_level_byte(cp);
        if (byte < 0) {
            out->len = before;
            return false;
        }
        buf_char(out, (char)byte);
    }
    return true;
}
