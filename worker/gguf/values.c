// Metadata values as what the caller expects them to be.
#include <math.h>
#include <string.h>
#include "worker/gguf/gguf.h"

static err_id wrong_kind(const struct gguf *g, const char *key, const char *expected, struct error *e) {
    return error_set(e, ERR_MODEL_FILES, "%s: the metadata \"%s\" must be %s", gguf_name(g), key, expected);
}

static int64_t whole(enum gguf_kind kind, const uint8_t *p) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } v = {0};
    switch (kind) {
    case GGUF_U8:
    case GGUF_BOOL:
        memcpy(&v, p, 1);
        return v.u8;
    case GGUF_I8:
        memcpy(&v, p, 1);
        return v.i8;
    case GGUF_U16:
        memcpy(&v, p, 2);
        return v.u16;
    case GGUF_I16:
        memcpy(&v, p, 2);
        return v.i16;
    case GGUF_U32:
        memcpy(&v, p, 4);
        return v.u32;
    case GGUF_I32:
        memcpy(&v, p, 4);
        return v.i32;
    case GGUF_U64:
        memcpy(&v, p, 8);
        return v.u64 > INT64_MAX ? -1 : (int64_t)v.u64;
    case GGUF_I64:
        memcpy(&v, p, 8);
        return v.i64;
    default:
        return -1;
    }
}

static bool is_float(enum gguf_kind k) { return k == GGUF_F32 || k == GGUF_F64; }
static bool is_number(enum gguf_kind k) { return k != GGUF_STRING && k != GGUF_ARRAY && k != GGUF_BOOL; }

static double number(enum gguf_kind kind, const uint8_t *p) {
    float f;
    double d;
    if (kind == GGUF_F32) return memcpy(&f, p, 4), f;
    if (kind == GGUF_F64) return memcpy(&d, p, 8), d;
    return (double)whole(kind, p);
}

err_id gguf_u64(const struct gguf *g, const char *key, uint64_t *out, struct error *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL) return ERR_NONE;
    if (!is_number(v->kind) || is_float(v->kind) || whole(v->kind, v->data) < 0)
        return wrong_kind(g, key, "a whole number of at least 0", e);
    *out = (uint64_t)whole(v->kind, v->data);
    return ERR_NONE;
}

err_id gguf_number(const struct gguf *g, const char *key, double *out, struct error *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL) return ERR_NONE;
    if (!is_number(v->kind) || !isfinite(number(v->kind, v->data))) return wrong_kind(g, key, "a number", e);
    *out = number(v->kind, v->data);
    return ERR_NONE;
}

err_id gguf_bool(const struct gguf *g, const char *key, bool *out, struct error *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL) return ERR_NONE;
    if (v->kind != GGUF_BOOL || *v->data > 1) return wrong_kind(g, key, "true or false", e);
    *out = *v->data == 1;
    return ERR_NONE;
}

err_id gguf_string(const struct gguf *g, const char *key, struct gguf_text *out, struct error *e) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL) return ERR_NONE;
    if (v->kind != GGUF_STRING) return wrong_kind(g, key, "a string", e);
    const uint8_t *at = v->data;
    *out = gguf_next_string(&at);
    return ERR_NONE;
}

struct gguf_text gguf_next_string(const uint8_t **at) {
    uint64_t n;
    memcpy(&n, *at, 8);
    struct gguf_text t = {(const char *)*at + 8, n};
    *at += 8 + n;
    return t;
}

static uint32_t bytes_of(enum gguf_kind k) {
    return k == GGUF_U64 || k == GGUF_I64 || k == GGUF_F64   ? 8
           : k == GGUF_U32 || k == GGUF_I32 || k == GGUF_F32 ? 4
           : k == GGUF_U16 || k == GGUF_I16                  ? 2
                                                             : 1;
}

int64_t gguf_element_int(const struct gguf_value *a, uint64_t i) {
    const uint8_t *p = a->data + i * bytes_of(a->element);
    return is_float(a->element) ? -1 : whole(a->element, p);
}

double gguf_element_number(const struct gguf_value *a, uint64_t i) {
    return number(a->element, a->data + i * bytes_of(a->element));
}
