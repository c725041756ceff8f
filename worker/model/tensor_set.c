// Tensor sets whatever they were read from: opening by kind of source, looking up, the fingerprint.
#include "worker/model/tensor_set.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/base/buf.h"
#include "common/base/check.h"

struct tensor *tensor_set_add(struct tensor_set *set, const char *name) {
    if (set->n_tensors == set->capacity) {
        set->capacity = set->capacity == 0 ? 256 : 2 * set->capacity;
        set->tensors = xrealloc(set->tensors, set->capacity * sizeof *set->tensors);
    }
    struct tensor *t = &set->tensors[set->n_tensors++];
    *t = (struct tensor){.name = xstrdup(name)};
    return t;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

err_id tensor_set_sort(struct tensor_set *set, struct error *e) {
    if (set->n_tensors > 1) qsort(set->tensors, set->n_tensors, sizeof *set->tensors, by_name);
    for (uint64_t i = 1; i < set->n_tensors; i++) {
        if (strcmp(set->tensors[i - 1].name, set->tensors[i].name) == 0)
            return error_set(e, ERR_MODEL_FILES, "%s: tensor \"%.120s\" is there twice (in two files?)", set->source,
                             set->tensors[i].name);
    }
    return ERR_NONE;
}

err_id tensor_set_open(const char *path, struct tensor_set **out, struct error *e) {
    struct tensor_set *set = xcalloc(1, sizeof *set);
    err_id id = (gguf_is_file(path) ? tensors_gguf_open : safetensors_open)(set, path, e);
    if (id != ERR_NONE) {
        tensor_set_close(&set);
        return id;
    }
    *out = set;
    return ERR_NONE;
}

void tensor_set_close(struct tensor_set **set) {
    struct tensor_set *s = *set;
    if (s == NULL) return;
    for (uint64_t i = 0; i < s->n_tensors; i++) free(s->tensors[i].name);
    for (uint32_t i = 0; i < s->n_files; i++) {
        file_map_close(&s->files[i].map);
        free(s->files[i].name);
    }
    gguf_close(&s->gguf);
    free(s->tensors);
    free(s->files);
    free(s);
    *set = NULL;
}

err_id tensor_set_check(const struct tensor_set *set, struct error *e) {
    const char *broken = set->gguf != NULL && !gguf_whole(set->gguf) ? set->source : NULL;
    for (uint32_t i = 0; i < set->n_files && broken == NULL; i++) {
        if (!file_map_whole(&set->files[i].map)) broken = set->files[i].name;
    }
    if (broken == NULL) return ERR_NONE;
    return error_set(e, ERR_MODEL_FILES,
                     "%.200s could not be read to its end: it was cut off while it was read, or its disk fails; "
                     "start again when it is whole",
                     broken);
}

const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name) {
    struct tensor key = {.name = (char *)name};
    return set->n_tensors == 0 ? NULL : bsearch(&key, set->tensors, set->n_tensors, sizeof key, by_name);
}

void tensor_set_scale(struct tensor_set *set, const uint32_t block[2]) {
    for (uint64_t i = 0; i < set->n_tensors; i++) {
        struct tensor *t = &set->tensors[i];
        if (t->dtype != DTYPE_F8_E4M3 || t->n_dims != 2) continue;
        struct buf name = {0};
        buf_printf(&name, "%s_scale_inv", t->name);
        t->scale = tensor_set_find(set, name.data);
        t->block[0] = block[0];
        t->block[1] = block[1];
        buf_free(&name);
    }
}

void tensor_set_quantised(struct tensor_set *set, enum dtype dtype) {
    for (uint64_t i = 0; i < set->n_tensors; i++) {
        if (set->tensors[i].dtype == DTYPE_U8 && set->tensors[i].n_dims == 2) set->tensors[i].dtype = dtype;
    }
}

const struct tensor *tensor_set_all(const struct tensor_set *set, uint64_t *count) {
    *count = set->n_tensors;
    return set->tensors;
}

const char *tensor_set_source(const struct tensor_set *set) { return set->source; }

static int by_file_name(const void *a, const void *b) {
    return strcmp(((const struct mapped *)a)->name, ((const struct mapped *)b)->name);
}

// Its size and evenly spaced pages.
static void hash_file(XXH3_state_t *state, const struct mapped *f) {
    enum { PAGE = 4096, PAGES_PER_FILE = 64 };
    XXH3_128bits_update(state, &f->size, sizeof f->size);
    uint64_t pages = (f->size + PAGE - 1) / PAGE, stride = (pages + PAGES_PER_FILE - 1) / PAGES_PER_FILE;
    for (uint64_t p = 0; p < pages; p += stride) {
        uint64_t off = p * PAGE, n = f->size - off < PAGE ? f->size - off : PAGE;
        XXH3_128bits_update(state, f->bytes + off, n);
    }
}

void tensor_set_fingerprint(const struct tensor_set *set, char text[33]) {
    XXH3_state_t *state = XXH3_createState();
    CHECK(state != NULL);
    XXH3_128bits_reset(state);
    for (uint64_t i = 0; i < set->n_tensors; i++) {
        const struct tensor *t = &set->tensors[i];
        XXH3_128bits_update(state, t->name, strlen(t->name) + 1);
        XXH3_128bits_update(state, dtype_name(t->dtype), strlen(dtype_name(t->dtype)) + 1);
        XXH3_128bits_update(state, t->dims, t->n_dims * sizeof t->dims[0]);
    }
    if (set->gguf != NULL) {
        struct mapped f = {0};
        uint64_t head;
        f.bytes = gguf_bytes(set->gguf, &f.size, &head);
        XXH3_128bits_update(state, f.bytes, head);
        hash_file(state, &f);
    }
    struct mapped *files = xmalloc((set->n_files + 1) * sizeof *files);
    for (uint32_t i = 0; i < set->n_files; i++) files[i] = set->files[i];
    qsort(files, set->n_files, sizeof *files, by_file_name);
    for (uint32_t i = 0; i < set->n_files; i++) hash_file(state, &files[i]);
    free(files);
    XXH128_hash_t h = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(text, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}
