// Design notes: a cursor that can't leave the file reads everything; after the first fault it stands still and returns
// zeros, so that each record is checked once, at its end.
#include "worker/gguf/gguf.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/check.h"
#include "common/sys/file_map.h"
#include "worker/gguf/types.h"

enum { KEYS_MAX = 1 << 16, TENSORS_MAX = 1 << 20, ALIGNMENT_MAX = 1 << 20, NAME_BYTES_MAX = 1024, PREALLOCATED = 1024 };

struct gguf {
    struct file_map file;
    const uint8_t *bytes;
    uint64_t size, head, data_off, alignment;
    char name[128];
    struct gguf_value *values; // sorted by key
    uint64_t n_values;
    struct gguf_tensor *tensors;
    const struct gguf_tensor **by_name;
    uint64_t n_tensors;
};

struct cursor {
    const uint8_t *at;
    uint64_t left;
    bool cut_off;
};

static const uint8_t *skip(struct cursor *c, uint64_t n) {
    if (n > c->left) c->cut_off = true;
    if (c->cut_off) return NULL;
    const uint8_t *p = c->at;
    c->at += n;
    c->left -= n;
    return p;
}

static uint64_t read_uint(struct cursor *c, uint32_t bytes) {
    uint64_t v = 0;
    const uint8_t *p = skip(c, bytes);
    if (p != NULL) memcpy(&v, p, bytes);
    return v;
}

static struct gguf_text read_text(struct cursor *c) {
    uint64_t n = read_uint(c, 8);
    const uint8_t *p = skip(c, n);
    return p == NULL ? (struct gguf_text){"", 0} : (struct gguf_text){(const char *)p, n};
}

static err_id fault(const struct gguf *g, struct error *e, const char *what) {
    return error_set(e, ERR_MODEL_FILES, "%s: %s", g->name, what);
}

static int compare_text(struct gguf_text a, struct gguf_text b) {
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

// ---- metadata ----

static const uint8_t kind_bytes[GGUF_KINDS] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8, // strings and arrays: 0
};

static err_id read_array(const struct gguf *g, struct cursor *c, struct gguf_value *v, struct error *e) {
    uint64_t element = read_uint(c, 4), bytes;
    v->count = read_uint(c, 8);
    if (c->cut_off) return ERR_NONE;
    if (element >= GGUF_KINDS || element == GGUF_ARRAY) {
        return error_set(e, ERR_UNSUPPORTED, "%s: the array \"%.*s\" has elements of kind %llu, which is not supported",
                         g->name, (int)v->key.len, v->key.data, (unsigned long long)element);
    }
    v->element = (enum gguf_kind)element;
    v->data = c->at;
    if (v->element != GGUF_STRING) {
        c->cut_off |= __builtin_mul_overflow(v->count, kind_bytes[element], &bytes);
        skip(c, bytes);
        return ERR_NONE;
    }
    for (uint64_t i = 0; i < v->count && !c->cut_off; i++) read_text(c);
    return ERR_NONE;
}

static err_id read_value(const struct gguf *g, struct cursor *c, struct gguf_value *v, struct error *e) {
    v->key = read_text(c);
    uint64_t kind = read_uint(c, 4);
    if (c->cut_off) return ERR_NONE;
    if (v->key.len == 0 || v->key.len > NAME_BYTES_MAX || memchr(v->key.data, 0, v->key.len) != NULL)
        return fault(g, e, "a metadata key is empty, too long or has a zero byte in it");
    if (kind >= GGUF_KINDS) {
        return error_set(e, ERR_UNSUPPORTED, "%s: the metadata \"%.*s\" is of kind %llu, which is not supported", g->name,
                         (int)v->key.len, v->key.data, (unsigned long long)kind);
    }
    v->kind = (enum gguf_kind)kind;
    if (v->kind == GGUF_ARRAY) return read_array(g, c, v, e);
    v->data = c->at;
    if (v->kind == GGUF_STRING) {
        read_text(c);
    } else {
        skip(c, kind_bytes[kind]);
    }
    return ERR_NONE;
}

static int by_key(const void *a, const void *b) {
    return compare_text(((const struct gguf_value *)a)->key, ((const struct gguf_value *)b)->key);
}

static err_id cut_off(const struct gguf *g, const char *where, struct error *e) {
    return error_set(e, ERR_MODEL_FILES, "%s is cut off or damaged: its %llu bytes end inside the %s", g->name,
                     (unsigned long long)g->size, where);
}

// Memory grows with what was really read, whatever the counts claim.
static err_id read_values(struct gguf *g, struct cursor *c, uint64_t count, struct error *e) {
    uint64_t capacity = 0;
    for (; g->n_values < count; g->n_values++) {
        if (g->n_values == capacity) {
            capacity = capacity == 0 ? PREALLOCATED : 2 * capacity;
            g->values = xrealloc(g->values, capacity * sizeof *g->values);
        }
        struct gguf_value *v = &g->values[g->n_values];
        memset(v, 0, sizeof *v);
        TRY(read_value(g, c, v, e));
        if (c->cut_off) return cut_off(g, "metadata", e);
    }
    if (count > 1) qsort(g->values, count, sizeof *g->values, by_key);
    for (uint64_t i = 1; i < count; i++) {
        if (by_key(&g->values[i - 1], &g->values[i]) == 0) {
            return error_set(e, ERR_MODEL_FILES, "%s: the metadata \"%.*s\" is there twice", g->name,
                             (int)g->values[i].key.len, g->values[i].key.data);
        }
    }
    return ERR_NONE;
}

// ---- tensors ----

static err_id tensor_fault(const struct gguf *g, const struct gguf_tensor *t, const char *what, struct error *e) {
    return error_set(e, ERR_MODEL_FILES, "%s: tensor \"%.*s\" %s", g->name, (int)t->name.len, t->name.data, what);
}

// The bytes of a tensor; false when they don't fit 64 bits or a row isn't whole blocks.
static bool size_of(const struct gguf_tensor *t, uint64_t *bytes) {
    const struct gguf_type_facts *f = &gguf_types[t->type];
    if (t->dims[0] % f->block != 0) return false;
    *bytes = t->dims[0] / f->block;
    if (__builtin_mul_overflow(*bytes, f->bytes, bytes)) return false;
    for (uint32_t d = 1; d < t->n_dims; d++) {
        if (__builtin_mul_overflow(*bytes, t->dims[d], bytes)) return false;
    }
    return true;
}

// *offset: from the start of the data.
static err_id read_tensor(const struct gguf *g, struct cursor *c, struct gguf_tensor *t, uint64_t *offset, struct error *e) {
    t->name = read_text(c);
    uint64_t n_dims = read_uint(c, 4);
    for (uint32_t d = 0; d < n_dims && d < GGUF_DIMS_MAX; d++) t->dims[d] = read_uint(c, 8);
    if (n_dims > GGUF_DIMS_MAX && !c->cut_off) return fault(g, e, "a tensor has more than 4 dimensions");
    uint64_t type = read_uint(c, 4);
    *offset = read_uint(c, 8);
    if (c->cut_off) return ERR_NONE;
    if (t->name.len == 0 || t->name.len > NAME_BYTES_MAX || memchr(t->name.data, 0, t->name.len) != NULL)
        return fault(g, e, "a tensor's name is empty, too long or has a zero byte in it");
    if (n_dims == 0) return tensor_fault(g, t, "has no dimensions", e);
    t->n_dims = (uint32_t)n_dims;
    if (!gguf_type_of((uint32_t)type, &t->type)) {
        char number[24];
        return error_set(e, ERR_UNSUPPORTED,
                         "%s: tensor \"%.*s\" is of type %s, which is not supported; supported are F32, F16, BF16, Q4_0, "
                         "Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K",
                         g->name, (int)t->name.len, t->name.data, gguf_unsupported_name((uint32_t)type, number));
    }
    if (!size_of(t, &t->bytes))
        return tensor_fault(g, t, "has rows that are not whole blocks of its type, or is too large", e);
    return ERR_NONE;
}

static int by_tensor_name(const void *a, const void *b) {
    return compare_text((*(const struct gguf_tensor *const *)a)->name, (*(const struct gguf_tensor *const *)b)->name);
}
static int by_data(const void *a, const void *b) {
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return x->data != y->data ? (x->data < y->data ? -1 : 1) : x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static err_id check_apart(struct gguf *g, struct error *e) {
    uint64_t n = g->n_tensors;
    if (n == 0) return fault(g, e, "it holds no tensors");
    g->by_name = xmalloc(n * sizeof(void *));
    for (uint64_t i = 0; i < n; i++) g->by_name[i] = &g->tensors[i];
    qsort(g->by_name, n, sizeof(void *), by_data);
    for (uint64_t i = 1; i < n; i++) {
        if (g->by_name[i - 1]->data + g->by_name[i - 1]->bytes > g->by_name[i]->data)
            return tensor_fault(g, g->by_name[i], "overlaps another", e);
    }
    qsort(g->by_name, n, sizeof(void *), by_tensor_name);
    for (uint64_t i = 1; i < n; i++) {
        if (by_tensor_name(&g->by_name[i - 1], &g->by_name[i]) == 0)
            return tensor_fault(g, g->by_name[i], "is there twice", e);
    }
    return ERR_NONE;
}

static err_id place(struct gguf *g, struct gguf_tensor *t, uint64_t offset, struct error *e) {
    if (offset % g->alignment != 0) return tensor_fault(g, t, "does not start at a multiple of the file's alignment", e);
    uint64_t room = g->data_off < g->size ? g->size - g->data_off : 0;
    if (offset > room || t->bytes > room - offset) {
        return error_set(e, ERR_MODEL_FILES,
                         "%s: tensor \"%.*s\" reaches beyond the end of the file (%llu bytes): it is cut off", g->name,
                         (int)t->name.len, t->name.data, (unsigned long long)g->size);
    }
    t->data = g->bytes + g->data_off + offset;
    return ERR_NONE;
}

static err_id read_tensors(struct gguf *g, struct cursor *c, uint64_t count, struct error *e) {
    uint64_t capacity = 0, *offsets = NULL;
    err_id id = ERR_NONE;
    for (; g->n_tensors < count && id == ERR_NONE; g->n_tensors++) {
        if (g->n_tensors == capacity) {
            capacity = capacity == 0 ? PREALLOCATED : 2 * capacity;
            g->tensors = xrealloc(g->tensors, capacity * sizeof *g->tensors);
            offsets = xrealloc(offsets, capacity * sizeof *offsets);
        }
        struct gguf_tensor *t = &g->tensors[g->n_tensors];
        memset(t, 0, sizeof *t);
        id = read_tensor(g, c, t, &offsets[g->n_tensors], e);
        if (id == ERR_NONE && c->cut_off) id = cut_off(g, "descriptions of its tensors", e);
    }
    g->head = g->size - c->left;
    g->data_off = (g->head + g->alignment - 1) / g->alignment * g->alignment;
    for (uint64_t i = 0; i < g->n_tensors && id == ERR_NONE; i++) id = place(g, &g->tensors[i], offsets[i], e);
    free(offsets);
    return id == ERR_NONE ? check_apart(g, e) : id;
}

// ---- the file ----

static err_id read_all(struct gguf *g, struct error *e) {
    struct cursor c = {g->bytes, g->size, false};
    const uint8_t *magic = skip(&c, 4);
    if (magic == NULL || memcmp(magic, "GGUF", 4) != 0) return fault(g, e, "this is not a GGUF file");
    uint64_t version = read_uint(&c, 4);
    if (version >> 16 != 0 && (version & 0xffff) == 0) {
        return error_set(e, ERR_UNSUPPORTED, "%s: big-endian GGUF files are not supported", g->name);
    }
    if (!c.cut_off && version != 2 && version != 3) {
        return error_set(e, ERR_UNSUPPORTED, "%s: GGUF version %llu is not supported, only 2 and 3", g->name,
                         (unsigned long long)version);
    }
    uint64_t tensors = read_uint(&c, 8), values = read_uint(&c, 8);
    if (c.cut_off) return cut_off(g, "header", e);
    if (tensors > TENSORS_MAX || values > KEYS_MAX) {
        return error_set(e, ERR_MODEL_FILES, "%s: %llu tensors and %llu keys are announced, at most %d and %d are taken",
                         g->name, (unsigned long long)tensors, (unsigned long long)values, TENSORS_MAX, KEYS_MAX);
    }
    TRY(read_values(g, &c, values, e));
    g->alignment = 32;
    TRY(gguf_u64(g, "general.alignment", &g->alignment, e));
    if (g->alignment < 8 || g->alignment > ALIGNMENT_MAX || (g->alignment & (g->alignment - 1)) != 0) {
        return error_set(e, ERR_MODEL_FILES, "%s: general.alignment must be a power of two from 8 to %d", g->name,
                         ALIGNMENT_MAX);
    }
    return read_tensors(g, &c, tensors, e);
}

static err_id map(struct gguf *g, const char *path, struct error *e) {
    TRY(file_map_open(path, &g->file, e));
    g->bytes = g->file.bytes;
    g->size = g->file.size;
    return ERR_NONE;
}

err_id gguf_open(const char *path, struct gguf **gguf, struct error *e) {
    struct gguf *g = xcalloc(1, sizeof *g);
    const char *slash = strrchr(path, '/');
    strncat(g->name, slash == NULL ? path : slash + 1, sizeof g->name - 1);
    err_id id = map(g, path, e);
    if (id == ERR_NONE) id = read_all(g, e);
    if (id != ERR_NONE) {
        gguf_close(&g);
        return id;
    }
    *gguf = g;
    return ERR_NONE;
}

void gguf_close(struct gguf **gguf) {
    struct gguf *g = *gguf;
    if (g == NULL) return;
    file_map_close(&g->file);
    free(g->values);
    free(g->tensors);
    free(g->by_name);
    free(g);
    *gguf = NULL;
}

bool gguf_is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

// ---- looking things up ----

const struct gguf_value *gguf_find(const struct gguf *g, const char *key) {
    struct gguf_value wanted = {.key = {key, strlen(key)}};
    return g->n_values == 0 ? NULL : bsearch(&wanted, g->values, g->n_values, sizeof wanted, by_key);
}

const struct gguf_tensor *gguf_tensors(const struct gguf *g, uint64_t *count) {
    *count = g->n_tensors;
    return g->tensors;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name) {
    struct gguf_tensor wanted = {.name = {name, strlen(name)}};
    const struct gguf_tensor *key = &wanted, *const * found;
    found = g->n_tensors == 0 ? NULL : bsearch(&key, g->by_name, g->n_tensors, sizeof(void *), by_tensor_name);
    return found == NULL ? NULL : *found;
}

const uint8_t *gguf_bytes(const struct gguf *g, uint64_t *bytes, uint64_t *bytes_head) {
    *bytes = g->size;
    *bytes_head = g->head;
    return g->bytes;
}

const char *gguf_name(const struct gguf *g) { return g->name; }

bool gguf_whole(const struct gguf *g) { return file_map_whole(&g->file); }
