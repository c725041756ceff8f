#include "router/front/stream_id.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <sodium.h>
#include <string.h>

enum { VERSION_ONE = 1, VERSION_MANY = 2, MAC_BYTES = 16, RAW_MAX = 640, HEX_FINGERPRINT = 0x80 };

static const char PARAM[] = "Last-Event-ID";

// --- positions

void stream_position_record(struct stream_position *at, const struct record *r) {
    uint64_t seed = (uint64_t)r->token << 8 | r->channel;
    at->hash = hash_mix(at->hash ^ hash_bytes(r->text, r->text_len, seed)) + 1;
    at->offset++;
}

void stream_position_tail(struct stream_position *at, const struct msg_done *done) {
    at->hash = hash_mix(at->hash ^ hash_bytes(done->tail, done->tail_len, (uint64_t)done->tail_channel + 1)) + 1;
    at->phase = PHASE_TAIL;
}

bool stream_position_equal(const struct stream_position *a, const struct stream_position *b) {
    return a->offset == b->offset && a->hash == b->hash;
}

// --- bytes

struct writer {
    uint8_t bytes[RAW_MAX];
    size_t n;
};

static void put(struct writer *w, const void *bytes, size_t n) {
    CHECK(w->n + n <= sizeof w->bytes);
    memcpy(w->bytes + w->n, bytes, n);
    w->n += n;
}

static void put_fixed(struct writer *w, uint64_t x) {
    for (int i = 0; i < 8; i++) put(w, &(uint8_t){(uint8_t)(x >> 8 * i)}, 1);
}

static void put_number(struct writer *w, uint64_t x) { // LEB128
    for (; x >= 0x80; x >>= 7) put(w, &(uint8_t){(uint8_t)(x | 0x80)}, 1);
    put(w, &(uint8_t){(uint8_t)x}, 1);
}

static void put_text(struct writer *w, const char *text) {
    put_number(w, strlen(text));
    put(w, text, strlen(text));
}

// 32 hex digits take 16 bytes.
static void put_fingerprint(struct writer *w, const char *fingerprint) {
    uint8_t raw[16];
    size_t n = strlen(fingerprint), len;
    bool hex = n == 2 * sizeof raw && strspn(fingerprint, "0123456789abcdef") == n &&
               sodium_hex2bin(raw, sizeof raw, fingerprint, n, NULL, &len, NULL) == 0;
    put(w, &(uint8_t){hex ? HEX_FINGERPRINT : (uint8_t)n}, 1);
    put(w, hex ? (const void *)raw : fingerprint, hex ? sizeof raw : n);
}

struct reader {
    const uint8_t *bytes;
    size_t n;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t n) {
    static const uint8_t zeros[RAW_MAX];
    if (n > r->n) r->bad = true;
    if (r->bad) return zeros;
    r->bytes += n, r->n -= n;
    return r->bytes - n;
}

static uint64_t take_fixed(struct reader *r) {
    const uint8_t *b = take(r, 8);
    uint64_t x = 0;
    for (int i = 0; i < 8; i++) x |= (uint64_t)b[i] << 8 * i;
    return x;
}

static uint64_t take_number(struct reader *r) {
    uint64_t x = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = *take(r, 1);
        x |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return x;
    }
    r->bad = true;
    return 0;
}

static void take_text(struct reader *r, char *out, size_t size) {
    uint64_t n = take_number(r);
    if (n >= size) r->bad = true;
    memcpy(out, take(r, r->bad ? 0 : n), r->bad ? 0 : n);
    out[r->bad ? 0 : n] = '\0';
}

static void take_fingerprint(struct reader *r, char *out) {
    uint8_t n = *take(r, 1);
    if (n == HEX_FINGERPRINT) {
        sodium_bin2hex(out, FINGERPRINT_SIZE, take(r, 16), 16);
        return;
    }
    if (n >= FINGERPRINT_SIZE) r->bad = true;
    memcpy(out, take(r, r->bad ? 0 : n), r->bad ? 0 : n);
    out[r->bad ? 0 : n] = '\0';
}

// --- the id

static void put_position(struct writer *w, const struct stream_position *at) {
    put(w, &(uint8_t){(uint8_t)at->phase}, 1);
    put_number(w, at->offset);
    put_fixed(w, at->hash);
}

static struct stream_position take_position(struct reader *r) {
    struct stream_position at = {.phase = (enum stream_phase) * take(r, 1)};
    at.offset = (uint32_t)take_number(r);
    at.hash = take_fixed(r);
    return at;
}

static bool position_fits(const struct stream_position *at) {
    return at->phase <= PHASE_USAGE && at->offset <= OUTPUT_TOKENS_MAX;
}

static void sign(const uint8_t key[STREAM_KEY_BYTES], const char *tenant, const uint8_t *bytes, size_t n,
                 uint8_t out[MAC_BYTES]) {
    crypto_generichash_state state;
    crypto_generichash_init(&state, key, STREAM_KEY_BYTES, MAC_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)tenant, strlen(tenant) + 1);
    crypto_generichash_update(&state, bytes, n);
    crypto_generichash_final(&state, out, MAC_BYTES);
}

void stream_id_write(const struct stream_id *id, const struct stream_keys *keys, const char *tenant, struct buf *out) {
    struct writer w = {.n = 0};
    uint8_t mac[MAC_BYTES];
    put(&w, &(uint8_t){id->n > 1 ? VERSION_MANY : VERSION_ONE}, 1);
    put(&w, &(uint8_t){(uint8_t)id->at[0].phase}, 1);
    put(&w, id->request.bytes, sizeof id->request.bytes);
    put_fingerprint(&w, id->fingerprint);
    put_fixed(&w, id->seed);
    put_number(&w, id->takeover);
    put_number(&w, (uint64_t)id->created);
    put_number(&w, id->at[0].offset);
    put_fixed(&w, id->asks);
    put_fixed(&w, id->at[0].hash);
    put_text(&w, id->replica);
    if (id->n > 1) put_number(&w, id->n - 1);
    for (uint32_t i = 1; i < id->n; i++) put_position(&w, &id->at[i]);
    sign(keys->keys[0], tenant, w.bytes, w.n, mac);
    put(&w, mac, sizeof mac);
    size_t size = sodium_base64_encoded_len(w.n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_bin2base64(buf_reserve(out, size), size, w.bytes, w.n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    out->len += size - 1; // without the zero byte
}

static err_id verify(const struct reader *r, const uint8_t *mac, const struct stream_keys *keys, const char *tenant,
                     struct error *e) {
    for (uint32_t i = 0; i < keys->n; i++) {
        uint8_t own[MAC_BYTES];
        sign(keys->keys[i], tenant, r->bytes, r->n, own);
        if (sodium_memcmp(own, mac, sizeof own) == 0) return ERR_NONE;
    }
    return error_set_param(e, ERR_FORBIDDEN, PARAM,
                           "Last-Event-ID names a stream that is not yours, or was made by a router with other stream keys");
}

err_id stream_id_read(const char *text, const struct stream_keys *keys, const char *tenant, struct stream_id *out,
                      struct error *e) {
    static const char wrong[] = "Last-Event-ID is not the id of an event of an answer";
    uint8_t raw[RAW_MAX];
    size_t n;
    *out = (struct stream_id){0};
    bool whole = sodium_base642bin(raw, sizeof raw, text, strlen(text), NULL, &n, NULL,
                                   sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0;
    bool known = whole && n >= MAC_BYTES && (raw[0] == VERSION_ONE || raw[0] == VERSION_MANY);
    if (!known) return error_set_param(e, ERR_INVALID_ARGUMENT, PARAM, wrong);
    struct reader r = {.bytes = raw, .n = n - MAC_BYTES};
    TRY(verify(&r, raw + r.n, keys, tenant, e));
    take(&r, 1);
    out->at[0].phase = (enum stream_phase) * take(&r, 1);
    memcpy(out->request.bytes, take(&r, sizeof out->request.bytes), sizeof out->request.bytes);
    take_fingerprint(&r, out->fingerprint);
    out->seed = take_fixed(&r);
    out->takeover = (uint32_t)take_number(&r);
    out->created = (int64_t)take_number(&r);
    out->at[0].offset = (uint32_t)take_number(&r);
    out->asks = take_fixed(&r);
    out->at[0].hash = take_fixed(&r);
    take_text(&r, out->replica, sizeof out->replica);
    uint64_t more = raw[0] == VERSION_MANY ? take_number(&r) : 0;
    out->n = 1 + (uint32_t)(more < CHOICES_MAX ? more : 0);
    for (uint32_t i = 1; i < out->n; i++) out->at[i] = take_position(&r);
    bool fits = !r.bad && r.n == 0 && (raw[0] == VERSION_ONE) == (out->n == 1);
    for (uint32_t i = 0; i < out->n; i++) fits = fits && position_fits(&out->at[i]);
    return fits ? ERR_NONE : error_set_param(e, ERR_INVALID_ARGUMENT, PARAM, wrong);
}

// --- ids of keys

request_id stream_id_of_key(const char *cluster, const char *tenant, const char *key) {
    request_id id;
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof id.bytes);
    crypto_generichash_update(&state, (const uint8_t *)cluster, strlen(cluster) + 1);
    crypto_generichash_update(&state, (const uint8_t *)tenant, strlen(tenant) + 1);
    crypto_generichash_update(&state, (const uint8_t *)key, strlen(key));
    crypto_generichash_final(&state, id.bytes, sizeof id.bytes);
    return id;
}

uint64_t stream_id_seed(const request_id *request) { return hash_bytes(request->bytes, sizeof request->bytes, 1) >> 1; }
