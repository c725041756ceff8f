// The safetensors part of a tensor set. Design notes: all files are mapped for the life of the set; a tensor's data pointer
// goes into its file's mapping. The index is trusted for nothing but which files there are and which file has which tensor;
// both must agree with the headers.
#include "worker/model/tensor_set.h"
#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "common/base/check.h"

enum { FILES_MAX = 4096, TENSORS_MAX = 4 << 20, PATH_BYTES = 4096, NAME_BYTES_MAX = 1024 };

// ---- one file's header ----

static err_id bad_tensor(const char *file, const char *name, const char *what, struct error *e) {
    return error_set(e, ERR_MODEL_FILES, "%.100s: tensor \"%.120s\" %s", file, name, what);
}

static err_id read_dtype(const json_t *o, const struct mapped *f, struct tensor *t, struct error *e) {
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    if (dtype == NULL) return bad_tensor(f->name, t->name, "has no dtype", e);
    for (int d = 0; d < DTYPE_SAFETENSORS; d++) {
        if (strcmp(dtype_name((enum dtype)d), dtype) != 0) continue;
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
    *bytes = dtype_block(t->dtype).bytes;
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

// The file's tensors must cover its data without overlap or hole.
static err_id check_cover(const struct mapped *f, uint64_t data_off, struct tensor *t, uint64_t n, struct error *e) {
    if (n > 0) qsort(t, n, sizeof *t, by_data);
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
        TRY(read_tensor(o, f, data_off, tensor_set_add(set, name), e));
    }
    struct tensor *own = set->tensors != NULL ? set->tensors + first : NULL;
    return check_cover(f, data_off, own, set->n_tensors - first, e);
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
    struct file_map map;
    TRY(file_map_open(path, &map, e));
    set->files = xrealloc(set->files, (set->n_files + 1) * sizeof *set->files);
    set->files[set->n_files++] = (struct mapped){xstrdup(name), map.bytes, map.size, map};
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

// Each tensor that the index names must be there.
static err_id finish(struct tensor_set *set, const json_t *index, struct error *e) {
    TRY(tensor_set_sort(set, e));
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

err_id safetensors_open(struct tensor_set *set, const char *folder, struct error *e) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    if (access(path, F_OK) == 0) {
        snprintf(set->source, sizeof set->source, "model.safetensors.index.json");
        return open_indexed(set, folder, path, e);
    }
    snprintf(set->source, sizeof set->source, "model.safetensors");
    TRY(map_file(set, folder, set->source, e));
    return finish(set, NULL, e);
}
