#include "worker/plan/sequence_state.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <string.h>

static const char manifest_magic[8] = "SHOALSEQ", part_magic[8] = "SHOALKVS";

struct manifest_head {
    char magic[8];
    uint32_t version, head_bytes;
    uint32_t n_parts, n_tokens, n_prompt, n_computed;
    char fingerprint[48]; // zero-padded
    uint8_t request[16];
    uint32_t choice, zero;
};
_Static_assert(sizeof(struct manifest_head) == 104, "the head is 104 bytes on every machine");

struct manifest_part {
    uint32_t stage, layer_first, layer_end, zero;
    uint64_t bytes_per_token, hash;
};
_Static_assert(sizeof(struct manifest_part) == 32, "a part's entry is 32 bytes on every machine");

struct part_head {
    char magic[8];
    uint32_t version, head_bytes;
    struct manifest_part part;
    uint32_t n_computed, zero;
    uint8_t request[16];
    uint32_t choice, zero_too;
    char unused[40];
    uint64_t head_hash; // of all bytes before it
};
_Static_assert(sizeof(struct part_head) == STATE_PART_HEAD_BYTES, "the head is 128 bytes on every machine");

// ---- writing ----

size_t state_manifest_bytes(const struct sequence_state *s) {
    size_t tokens = ((size_t)s->n_tokens * sizeof *s->tokens + 7) / 8 * 8;
    return sizeof(struct manifest_head) + s->n_parts * sizeof(struct manifest_part) + tokens + sizeof(uint64_t);
}

static struct manifest_part entry_of(const struct state_part *p) {
    return (struct manifest_part){.stage = p->stage,
                                  .layer_first = p->layer_first,
                                  .layer_end = p->layer_end,
                                  .bytes_per_token = p->bytes_per_token,
                                  .hash = p->hash};
}

void state_manifest_encode(const struct sequence_state *s, uint8_t *out) {
    CHECK(s->n_parts <= STATE_PARTS_MAX && s->n_tokens <= STATE_TOKENS_MAX);
    size_t len = state_manifest_bytes(s), at = sizeof(struct manifest_head);
    memset(out, 0, len);
    struct manifest_head head = {.version = STATE_VERSION, .head_bytes = sizeof head};
    memcpy(head.magic, manifest_magic, sizeof head.magic);
    head.n_parts = s->n_parts;
    head.n_tokens = s->n_tokens;
    head.n_prompt = s->n_prompt;
    head.n_computed = s->n_computed;
    memcpy(head.fingerprint, s->fingerprint, sizeof s->fingerprint);
    memcpy(head.request, s->key.request.bytes, sizeof head.request);
    head.choice = s->key.choice;
    memcpy(out, &head, sizeof head);
    for (uint32_t i = 0; i < s->n_parts; i++, at += sizeof(struct manifest_part)) {
        struct manifest_part p = entry_of(&s->parts[i]);
        memcpy(out + at, &p, sizeof p);
    }
    memcpy(out + at, s->tokens, s->n_tokens * sizeof *s->tokens);
    uint64_t hash = hash_bytes(out, len - sizeof hash, 0);
    memcpy(out + len - sizeof hash, &hash, sizeof hash);
}

static struct part_head head_of(const struct sequence_state *s, uint32_t part) {
    struct part_head h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, part_magic, sizeof h.magic);
    h.version = STATE_VERSION;
    h.head_bytes = sizeof h;
    h.part = entry_of(&s->parts[part]);
    h.n_computed = s->n_computed;
    memcpy(h.request, s->key.request.bytes, sizeof h.request);
    h.choice = s->key.choice;
    h.head_hash = hash_bytes(&h, offsetof(struct part_head, head_hash), 0);
    return h;
}

void state_part_head_encode(const struct sequence_state *s, uint32_t part, uint8_t out[STATE_PART_HEAD_BYTES]) {
    struct part_head h = head_of(s, part);
    memcpy(out, &h, sizeof h);
}

// ---- reading ----

static err_id check_head(const struct manifest_head *h, size_t len, struct error *e) {
    if (memcmp(h->magic, manifest_magic, sizeof h->magic) != 0)
        return error_set(e, ERR_PROTOCOL, "it is no manifest of a sequence");
    if (h->version != STATE_VERSION || h->head_bytes != sizeof *h)
        return error_set(e, ERR_PROTOCOL, "the manifest has version %u; this program reads %d", h->version, STATE_VERSION);
    if (h->n_parts > STATE_PARTS_MAX || h->n_tokens > STATE_TOKENS_MAX)
        return error_set(e, ERR_PROTOCOL, "the manifest says %u parts and %u tokens; at most %d and %d are allowed",
                         h->n_parts, h->n_tokens, STATE_PARTS_MAX, STATE_TOKENS_MAX);
    struct sequence_state counts = {.n_parts = h->n_parts, .n_tokens = h->n_tokens};
    if (len != state_manifest_bytes(&counts))
        return error_set(e, ERR_PROTOCOL, "the manifest has %zu bytes where %zu are announced", len,
                         state_manifest_bytes(&counts));
    if (h->n_prompt == 0 || h->n_prompt > h->n_tokens || h->n_computed > h->n_tokens)
        return error_set(e, ERR_PROTOCOL, "the manifest says %u tokens, %u of the prompt and %u computed", h->n_tokens,
                         h->n_prompt, h->n_computed);
    if (memchr(h->fingerprint, '\0', FINGERPRINT_SIZE) == NULL)
        return error_set(e, ERR_PROTOCOL, "the manifest's fingerprint has no end");
    return ERR_NONE;
}

static err_id read_parts(const uint8_t *bytes, struct sequence_state *out, struct error *e) {
    for (uint32_t i = 0; i < out->n_parts; i++) {
        struct manifest_part p;
        memcpy(&p, bytes + i * sizeof p, sizeof p);
        out->parts[i] = (struct state_part){p.stage, p.layer_first, p.layer_end, p.bytes_per_token, p.hash};
        bool sane = p.stage == i && p.layer_first < p.layer_end && p.bytes_per_token < UINT64_C(1) << 32;
        if (!sane) return error_set(e, ERR_PROTOCOL, "part %u of the manifest contradicts itself", i);
    }
    return ERR_NONE;
}

err_id state_manifest_decode(const uint8_t *bytes, size_t len, struct sequence_state *out, struct error *e) {
    struct manifest_head h;
    uint64_t hash;
    memset(out, 0, sizeof *out);
    if (len < sizeof h + sizeof hash) return error_set(e, ERR_PROTOCOL, "the manifest has only %zu bytes", len);
    memcpy(&h, bytes, sizeof h);
    TRY(check_head(&h, len, e));
    memcpy(&hash, bytes + len - sizeof hash, sizeof hash);
    if (hash != hash_bytes(bytes, len - sizeof hash, 0)) return error_set(e, ERR_PROTOCOL, "the manifest's hash is wrong");
    out->n_parts = h.n_parts;
    out->n_tokens = h.n_tokens;
    out->n_prompt = h.n_prompt;
    out->n_computed = h.n_computed;
    memcpy(out->fingerprint, h.fingerprint, sizeof out->fingerprint);
    memcpy(out->key.request.bytes, h.request, sizeof h.request);
    out->key.choice = h.choice;
    TRY(read_parts(bytes + sizeof h, out, e));
    out->tokens = (const uint32_t *)(const void *)(bytes + sizeof h + h.n_parts * sizeof(struct manifest_part));
    return ERR_NONE;
}

err_id state_part_check(const struct sequence_state *s, uint32_t part, const uint8_t *bytes, size_t len, struct error *e) {
    uint64_t want = state_part_bytes(s, part);
    if (len < STATE_PART_HEAD_BYTES || len - STATE_PART_HEAD_BYTES != want)
        return error_set(e, ERR_PROTOCOL, "it has %zu bytes where %llu are announced", len,
                         (unsigned long long)(want + STATE_PART_HEAD_BYTES));
    struct part_head h = head_of(s, part);
    if (memcmp(&h, bytes, sizeof h) != 0)
        return error_set(e, ERR_PROTOCOL, "its head is not the one that the manifest announces");
    if (hash_bytes(bytes + sizeof h, want, 0) != s->parts[part].hash)
        return error_set(e, ERR_PROTOCOL, "the hash of its entries is wrong");
    return ERR_NONE;
}

// ---- whose it is ----

static bool same_layout(const struct sequence_state *s, const struct state_expectation *want) {
    if (s->n_parts != want->n_parts) return false;
    for (uint32_t i = 0; i < s->n_parts; i++) {
        const struct state_part *a = &s->parts[i], *b = &want->parts[i];
        bool same = a->stage == b->stage && a->layer_first == b->layer_first && a->layer_end == b->layer_end;
        if (!same || a->bytes_per_token != b->bytes_per_token) return false;
    }
    return true;
}

err_id state_matches(const struct sequence_state *s, const struct state_expectation *want, uint32_t *n_usable,
                     struct error *e) {
    *n_usable = 0;
    if (strcmp(s->fingerprint, want->fingerprint) != 0)
        return error_set(e, ERR_PROTOCOL, "it was made under fingerprint %s, this is %s", s->fingerprint, want->fingerprint);
    if (!stream_key_equal(&s->key, &want->key)) return error_set(e, ERR_PROTOCOL, "it belongs to another request");
    uint32_t both = s->n_tokens < want->n_tokens ? s->n_tokens : want->n_tokens;
    for (uint32_t i = 0; i < both; i++) {
        if (s->tokens[i] != want->tokens[i])
            return error_set(e, ERR_PROTOCOL, "its token %u is %u, the request's is %u", i, s->tokens[i], want->tokens[i]);
    }
    if (!same_layout(s, want)) return error_set(e, ERR_PROTOCOL, "it was made by other shards");
    *n_usable = s->n_computed < both ? s->n_computed : both;
    return ERR_NONE;
}
