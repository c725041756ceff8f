#include "common/base/ids.h"

#include "common/base/hash.h"

int attempt_compare(const struct attempt *a, const struct attempt *b) {
    if (a->takeover != b->takeover) return a->takeover < b->takeover ? -1 : 1;
    if (a->counter != b->counter) return a->counter < b->counter ? -1 : 1;
    if (a->router != b->router) return a->router < b->router ? -1 : 1;
    return 0;
}

void request_id_text(const request_id *id, char out[REQUEST_ID_TEXT]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        out[2 * i] = digits[id->bytes[i] >> 4];
        out[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    out[32] = '\0';
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

bool request_id_parse(const char *text, request_id *out) {
    if (strlen(text) != 2 * sizeof out->bytes) return false;
    for (size_t i = 0; i < sizeof out->bytes; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

uint64_t stream_key_hash(const struct stream_key *key) {
    return hash_bytes(&key->request, sizeof key->request, key->choice);
}
