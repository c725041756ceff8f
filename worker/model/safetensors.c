// Design notes: all files are mapped for the life of the set; a tensor's data pointer goes into its file's mapping. The
// index is trusted for nothing but which files there are and which file has which tensor; both must agree with the headers.
#include "worker/model/safetensors.h"
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "common/base/check.h"

enum { FILES_MAX = 4096, TENSORS_MAX = 4 << 20, PATH_BYTES = 4096, NAME_BYTES_MAX = 1024 };

struct mapped {
    char *name; // inside the folder
    const uint8_t *bytes;
    uint64_t size;
};

struct tensor_set {
    struct mapped *files;
    uint32_t n_files;
    struct tensor *tensors;
    uint64_t n_tensors, capacity;
    const char *source;
};

static const struct {
    const char *name;
    uint32_t bytes;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_BF16] = {"BF16", 2},       [DTYPE_F16] = {"F16", 2},         [DTYPE_F32] = {"F32", 4},   [DTYPE_F64] = {"F64", 8},
    [DTYPE_F8_E4M3] = {"F8_E4M3", 1}, [DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [DTYPE_I8] = {"I8", 1},     [DTYPE_U8] = {"U8", 1},
    [DTYPE_I16] = {"I16", 2},         [DTYPE_U16] = {"U16", 2},         [DTYPE_I32] = {"I32", 4},   [DTYPE_U32] = {"U32", 4},
    [DTYPE_I64] = {"I64", 8},         [DTYPE_U64] = {"U64", 8},         [DTYPE_BOOL] = {"BOOL", 1},
};

const char *dtype_name(enum dtype d) { return dtypes[d].name; }
uint32_t dtype_bytes(enum dtype d) { return dtypes[d].bytes; }

// ---- one file's header ----

static err_id bad_tensor(const char *file, const char *name, const char *what, struct error *e) {
    return error_set(e, ERR_MODEL_FILES, "%.100s: tensor \"%.120s\" %s", file, name, what);
}

static err_id read_dtype(const json_t *o, const struct mapped *f, struct tensor *t, struct error *e) {
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    if (dtype == NULL) return bad_tensor(f->name, t->name, "has no dtype", e);
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (strcmp(dtypes[d].name, dtype) != 0) continue;
        t->dtype = (enum dtype)d;
        return ERR_NONE;
    }
    return error_set(e, ERR_MODEL_FILES, "%.100s: tensor \"%.120s\" has the unknown dtype \"%.20s\"", f->name, t->name,
                     dtype);
}

// Reads the shape; *bytes is what it takes.
static err_id read_shape(const json_t *o, const struct mapped *f, struct tensor *t, uint64_t *bytes, struct error *e) {
    const json_t *shape = json_object_get(o, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_DIMS_MAX) {
        return bad_tensor(f->name, t->name, "has no shape, or one of more than 8 dimensions", e);
    }
    t->n_dims = (uint32_t)json_array_size(shape);
    *bytes = dtype_bytes(t->dtype);
    for (uint32_t d = 0; d < t->n_dims; d++) {
        const json_t *n = json_array_get(shape, d);
        if (!json_is_integer(n) || json_integer_value(n) < 0)
            return bad_tensor(f->name, t->name, "has a malformed shape", e);
        t->dims[d] = (uint64_t)json_integer_value(n);
        if (__builtin_mul_overflow(*bytes, t->dims[d], bytes)) return bad_tensor(f->name, t->name, "is too large", e);
    }
    return ERR_NONE;
}

static err_id read_tensor(const json_t *o, const struct mapped *f, uint64_t data_off, struct tensor *t, struct error *e) {
    uint64_t bytes = 0;
    TRY(read_dtype(o, f, t, e));
    TRY(read_shape(o, f, t, &bytes, e));
    const json_t *offsets = json_object_get(o, "data_offsets"), *begin = json_array_get(offsets, 0),
                 *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end)) {
        return bad_tensor(f->name, t->name, "has no data_offsets", e);
    }
    json_int_t b = json_integer_value(begin), n = json_integer_value(end);
    if (b < 0 || n < b || (uint64_t)n > f->size - data_off) {
        return error_set(
            e, ERR_MODEL_FILES,
            "%.100s: tensor \"%.120s\" ends at byte %lld of the data, but the file holds only %llu: it is cut off", f->name,
            t->name, (long long)n, (unsigned long long)(f->size - data_off));
    }
    if ((uint64_t)(n - b) != bytes) return bad_tensor(f->name, t->name, "has offsets that don't fit its shape and dtype", e);
    t->data = f->bytes + data_off + b;
    t->bytes = bytes;
    return ERR_NONE;
}

static int by_data(const void *a, const void *b) {
    const struct tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}
static int by_name(const void *a, const void *b) {
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

// The file's tensors must cover its data without overlap or hole.
static err_id check_cover(const struct mapped *f, uint64_t data_off, struct tensor *t, uint64_t n, struct error *e) {
    qsort(t, n, sizeof *t, by_data);
    const uint8_t *at = f->bytes + data_off;
    for (uint64_t i = 0; i < n; i++) {
        if (t[i].data < at) return bad_tensor(f->name, t[i].name, "overlaps another", e);
        if (t[i].data > at) return bad_tensor(f->name, t[i].name, "leaves a hole before it", e);
        at += t[i].bytes;
    }
    if (at != f->bytes + f->size) {
        return error_set(e, ERR_MODEL_FILES, "%.100s has %llu bytes after its last tensor", f->name,
                         (unsigned long long)(f->bytes + f->size - at));
    }
    return ERR_NONE;
}

static struct tensor *add_tensor(struct tensor_set *set, const char *name) {
    if (set->n_tensors == set->capacity) {
        set->capacity = set->capacity == 0 ? 256 : 2 * set->capacity;
        set->tensors = xrealloc(set->tensors, set->capacity * sizeof *set->tensors);
    }
    struct tensor *t = &set->tensors[set->n_tensors++];
    *t = (struct tensor){.name = xstrdup(name)};
    return t;
}

static err_id read_tensors(struct tensor_set *set, const struct mapped *f, uint64_t data_off, json_t *header,
                           struct error *e) {
    uint64_t first = set->n_tensors;
    const char *name;
    json_t *o;
    json_object_foreach(header, name, o) {
        if (strcmp(name, "__metadata__") == 0) continue;
        if (strlen(name) > NAME_BYTES_MAX || set->n_tensors >= TENSORS_MAX || !json_is_object(o)) {
            return bad_tensor(f->name, name, "is malformed", e);
        }
        TRY(read_tensor(o, f, data_off, add_tensor(set, name), e));
    }
    return check_cover(f, data_off, set->tensors + first, set->n_tensors - first, e);
}

static err_id read_header(struct tensor_set *set, const struct mapped *f, struct error *e) {
    uint64_t length = 0;
    if (f->size >= 8) memcpy(&length, f->bytes, 8);
    if (f->size < 8 || length > f->size - 8) {
        return error_set(e, ERR_MODEL_FILES, "%.100s is cut off: its header should have %llu bytes, the file has %llu",
                         f->name, (unsigned long long)length, (unsigned long long)f->size);
    }
    if (length > SAFETENSORS_HEADER_MAX) {
        return error_set(e, ERR_MODEL_FILES, "%.100s: a header of %llu bytes is over the limit of %d", f->name,
                         (unsigned long long)length, SAFETENSORS_HEADER_MAX);
    }
    json_error_t je;
    json_t *header = json_loadb((const char *)f->bytes + 8, length, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(header)) {
        json_decref(header);
        return error_set(e, ERR_MODEL_FILES, "%.100s: the header is not valid JSON (%.100s)", f->name, je.text);
    }
    err_id id = read_tensors(set, f, 8 + length, header, e);
    json_decref(header);
    return id;
}

// ---- files ----

static err_id map_file(struct tensor_set *set, const char *folder, const char *name, struct error *e) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        if (fd >= 0) close(fd);
        return error_set(e, ERR_MODEL_FILES, "%.300s is missing, empty or can't be read", path);
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return error_set(e, ERR_SYSTEM, "%.300s can't be mapped into memory: %m", path);
    set->files = xrealloc(set->files, (set->n_files + 1) * sizeof *set->files);
    set->files[set->n_files++] = (struct mapped){xstrdup(name), p, (uint64_t)st.st_size};
    return read_header(set, &set->files[set->n_files - 1], e);
}

static bool is_mapped(const struct tensor_set *set, const char *name) {
    for (uint32_t i = 0; i < set->n_files; i++) {
        if (strcmp(set->files[i].name, name) == 0) return true;
    }
    return false;
}

static err_id map_shards(struct tensor_set *set, const char *folder, const json_t *index, struct error *e) {
    json_t *weight_map = json_object_get(index, "weight_map");
    if (!json_is_object(weight_map) || json_object_size(weight_map) == 0) {
        return error_set(e, ERR_MODEL_FILES, "%s: \"weight_map\" is missing or empty", set->source);
    }
    const char *tensor;
    json_t *file;
    json_object_foreach(weight_map, tensor, file) {
        const char *name = json_string_value(file);
        if (name == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL || set->n_files >= FILES_MAX) {
            return error_set(e, ERR_MODEL_FILES, "%s: the file of \"%.120s\" is not a plain file name", set->source, tensor);
        }
        if (!is_mapped(set, name)) TRY(map_file(set, folder, name, e));
    }
    return ERR_NONE;
}

// Sorts by name; a tensor in two files is an error, and each one that the index names must be there.
static err_id finish(struct tensor_set *set, const json_t *index, struct error *e) {
    qsort(set->tensors, set->n_tensors, sizeof *set->tensors, by_name);
    for (uint64_t i = 1; i < set->n_tensors; i++) {
        if (strcmp(set->tensors[i - 1].name, set->tensors[i].name) == 0) {
            return error_set(e, ERR_MODEL_FILES, "%s: tensor \"%.120s\" is in two files", set->source, set->tensors[i].name);
        }
    }
    const char *tensor;
    json_t *file, *weight_map = json_object_get(index, "weight_map");
    json_object_foreach(weight_map, tensor, file) {
        if (tensor_set_find(set, tensor) == NULL) {
            return error_set(e, ERR_MODEL_FILES, "%s names tensor \"%.120s\" in %.100s, which does not have it", set->source,
                             tensor, json_string_value(file));
        }
    }
    return ERR_NONE;
}

static err_id open_indexed(struct tensor_set *set, const char *folder, const char *path, struct error *e) {
    json_error_t je;
    json_t *index = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    if (index == NULL) return error_set(e, ERR_MODEL_FILES, "%.300s: line %d: %.100s", path, je.line, je.text);
    err_id id = map_shards(set, folder, index, e);
    if (id == ERR_NONE) id = finish(set, index, e);
    json_decref(index);
    return id;
}

err_id tensor_set_open(const char *folder, struct tensor_set **out, struct error *e) {
    struct tensor_set *set = xcalloc(1, sizeof *set);
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    err_id id;
    if (access(path, F_OK) == 0) {
        set->source = "model.safetensors.index.json";
        id = open_indexed(set, folder, path, e);
    } else {
        set->source = "model.safetensors";
        id = map_file(set, folder, set->source, e);
        if (id == ERR_NONE) id = finish(set, NULL, e);
    }
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
        munmap((void *)s->files[i].bytes, s->files[i].size);
        free(s->files[i].name);
    }
    free(s->tensors);
    free(s->files);
    free(s);
    *set = NULL;
}

const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name) {
    struct tensor key = {.name = (char *)name};
    return set->n_tensors == 0 ? NULL : bsearch(&key, set->tensors, set->n_tensors, sizeof key, by_name);
}

void tensor_set_scale(struct tensor_set *set, const uint32_t block[2]) {
    char name[NAME_BYTES_MAX + 16];
    for (uint64_t i = 0; i < set->n_tensors; i++) {
        struct tensor *t = &set->tensors[i];
        if (t->dtype != DTYPE_F8_E4M3 || t->n_dims != 2) continue;
        snprintf(name, sizeof name, "%s_scale_inv", t->name);
        t->scale = tensor_set_find(set, name);
        t->block[0] = block[0];
        t->block[1] = block[1];
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

void tensor_set_fingerprint(const struct tensor_set *set, char text[33]) {
    enum { PAGE = 4096, PAGES_PER_FILE = 64 };
    XXH3_state_t *state = XXH3_createState();
    CHECK(state != NULL);
    XXH3_128bits_reset(state);
    for (uint64_t i = 0; i < set->n_tensors; i++) {
        const struct tensor *t = &set->tensors[i];
        XXH3_128bits_update(state, t->name, strlen(t->name) + 1);
        XXH3_128bits_update(state, dtype_name(t->dtype), strlen(dtype_name(t->dtype)) + 1);
        XXH3_128bits_update(state, t->dims, t->n_dims * sizeof t->dims[0]);
    }
    struct mapped *files = xmalloc((set->n_files + 1) * sizeof *files);
    memcpy(files, set->files, set->n_files * sizeof *files);
    qsort(files, set->n_files, sizeof *files, by_file_name);
    for (uint32_t i = 0; i < set->n_files; i++) {
        XXH3_128bits_update(state, &files[i].size, sizeof files[i].size);
        uint64_t pages = (files[i].size + PAGE - 1) / PAGE, stride = (pages + PAGES_PER_FILE - 1) / PAGES_PER_FILE;
        for (uint64_t p = 0; p < pages; p += stride) {
            uint64_t off = p * PAGE, n = files[i].size - off < PAGE ? files[i].size - off : PAGE;
            XXH3_128bits_update(state, files[i].bytes + off, n);
        }
    }
    free(files);
    XXH128_hash_t h = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(text, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}
