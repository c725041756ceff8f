#include "worker/text/vocab.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_bytes(const char *s, size_t len) {
    uint64_t h = len * 0x9E3779B97F4A7C15u, word;
    for (; len >= 8; s += 8, len -= 8) {
        memcpy(&word, s, 8);
        h = (h ^ word) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    word = 0;
    for (size_t i = 0; i < len; i++) word = word << 8 | (unsigned char)s[i];
    h = (h ^ word) * 0xBF58476D1CE4E5B9u;
    return h ^ h >> 32;
}

void vocab_fini(struct vocab *v) {
    buf_free(&v->bytes);
    free(v->offset);
    free(v->length);
    free(v->slots);
    *v = (struct vocab){0};
}

// The slot that holds the string, or the empty one where it belongs. n_slots > 0.
static uint32_t slot_of(const struct vocab *v, const char *s, size_t len) {
    uint32_t mask = v->n_slots - 1, i = (uint32_t)hash_bytes(s, len) & mask;
    for (;; i = (i + 1) & mask) {
        uint32_t id = v->slots[i];
        if (id == TOKEN_NONE) return i;
        if (v->length[id] == len && memcmp(v->bytes.data + v->offset[id], s, len) == 0) return i;
    }
}

static void grow_slots(struct vocab *v) {
    free(v->slots);
    v->n_slots = v->n_slots ? v->n_slots * 2 : 1024;
    v->slots = xmalloc(v->n_slots * sizeof *v->slots);
    for (uint32_t i = 0; i < v->n_slots; i++) v->slots[i] = TOKEN_NONE;
    for (uint32_t id = 0; id < v->n_ids; id++) {
        if (v->length[id] == VOCAB_NO_STRING) continue;
        v->slots[slot_of(v, v->bytes.data + v->offset[id], v->length[id])] = id;
    }
}

static void grow_ids(struct vocab *v, uint32_t id) {
    if (id >= v->cap_ids) {
        uint32_t cap = v->cap_ids ? v->cap_ids : 1024;
        while (cap <= id) cap *= 2;
        v->offset = xrealloc(v->offset, cap * sizeof *v->offset);
        v->length = xrealloc(v->length, cap * sizeof *v->length);
        for (uint32_t i = v->cap_ids; i < cap; i++) v->offset[i] = 0, v->length[i] = VOCAB_NO_STRING;
        v->cap_ids = cap;
    }
    if (id >= v->n_ids) v->n_ids = id + 1;
}

bool vocab_add(struct vocab *v, uint32_t id, const char *s, size_t len) {
    CHECK(id < TOKEN_ID_MAX);
    if (id < v->n_ids && v->length[id] != VOCAB_NO_STRING) return false;
    if (2 * (v->n_strings + 1) > v->n_slots) grow_slots(v);
    uint32_t slot = slot_of(v, s, len);
    if (v->slots[slot] != TOKEN_NONE) return false;
    grow_ids(v, id);
    v->offset[id] = (uint32_t)v->bytes.len;
    v->length[id] = (uint32_t)len;
    buf_append(&v->bytes, s, len);
    v->slots[slot] = id;
    v->n_strings++;
    return true;
}

uint32_t vocab_find(const struct vocab *v, const char *s, size_t len) {
    return v->n_slots == 0 ? TOKEN_NONE : v->slots[slot_of(v, s, len)];
}

struct bytes vocab_string(const struct vocab *v, uint32_t id) {
    if (id >= v->n_ids || v->length[id] == VOCAB_NO_STRING) return (struct bytes){NULL, 0};
    return (struct bytes){v->bytes.data + v->offset[id], v->length[id]};
}
