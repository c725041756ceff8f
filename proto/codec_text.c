// Words and sentences from peers.
#include "proto/codec_internal.h"

#include <string.h>

// Bytes of the valid sequence at s, or 0. No overlong forms, no surrogates, nothing past U+10FFFF.
static size_t sequence(const uint8_t *s, size_t n) {
    uint8_t c = s[0];
    if (c < 0x80) return 1;
    size_t len = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (len == 0 || n < len) return 0;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return len;
}

size_t utf8_prefix(const uint8_t *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof word;
                continue;
            }
        }
        size_t len = sequence(s + i, n - i);
        if (len == 0) break;
        i += len;
    }
    return i;
}

static bool is_control(uint8_t c) { return c < 0x20 || c == 0x7f; }

err_id dec_name(const ProtobufCBinaryData *from, char *out, size_t size, const char *field, struct error *e) {
    if (from->len >= size)
        return error_set(e, ERR_PROTOCOL, "%s has %zu bytes; at most %zu are allowed", field, from->len, size - 1);
    if (utf8_prefix(from->data, from->len) != from->len) return error_set(e, ERR_PROTOCOL, "%s is not valid UTF-8", field);
    for (size_t i = 0; i < from->len; i++)
        if (is_control(from->data[i]))
            return error_set(e, ERR_PROTOCOL, "%s holds the control character 0x%02x", field, from->data[i]);
    if (from->len > 0) memcpy(out, from->data, from->len);
    out[from->len] = '\0';
    return ERR_NONE;
}

void dec_sentence(const ProtobufCBinaryData *from, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < from->len;) {
        size_t len = sequence(from->data + i, from->len - i);
        bool odd = len == 0 || is_control(from->data[i]);
        if (n + (odd ? 1 : len) >= size) break;
        if (odd) {
            out[n++] = '?';
            i++;
        } else {
            memcpy(out + n, from->data + i, len);
            n += len;
            i += len;
        }
    }
    out[n] = '\0';
}

err_id dec_float(float x, float low, float high, const char *field, struct error *e) {
    if (x >= low && x <= high) return ERR_NONE; // false for NaN
    return error_set(e, ERR_PROTOCOL, "%s is %g; expected %g to %g", field, (double)x, (double)low, (double)high);
}

err_id dec_no_memory(struct error *e) {
    return error_set(e, ERR_PROTOCOL, "the message needs more than %d MB of memory to be read", CODEC_ARENA_MAX >> 20);
}
