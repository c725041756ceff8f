// A GGUF file, versions 2 and 3, mapped into memory: metadata by key, and where each tensor lies. What is read was checked
// whole at opening: counts, lengths, types, alignment, that tensors lie inside the file and apart from each other.
// Format: github.com/ggml-org/ggml, docs/gguf.md. Little-endian files on little-endian machines. Read-only after opening;
// may be shared by threads.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"

enum gguf_kind { // of a metadata value, as numbered in the file
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_KINDS
};

// Tensor types that this program reads; any other is refused by its name.
enum gguf_type {
    GGUF_TYPE_F32,
    GGUF_TYPE_F16,
    GGUF_TYPE_BF16,
    GGUF_TYPE_Q4_0,
    GGUF_TYPE_Q4_1,
    GGUF_TYPE_Q5_0,
    GGUF_TYPE_Q5_1,
    GGUF_TYPE_Q8_0,
    GGUF_TYPE_Q4_K,
    GGUF_TYPE_Q5_K,
    GGUF_TYPE_Q6_K,
    GGUF_TYPES
};

enum { GGUF_DIMS_MAX = 4 };

struct gguf_text { // borrowed from the file; no zero byte follows
    const char *data;
    uint64_t len;
};

struct gguf_value {
    struct gguf_text key;
    enum gguf_kind kind, element; // element: of an array
    uint64_t count;               // of an array
    const uint8_t *data;          // unaligned; an array's first element; a string's length
};

struct gguf_tensor {
    struct gguf_text name;
    enum gguf_type type;
    uint32_t n_dims;
    uint64_t dims[GGUF_DIMS_MAX]; // innermost first, as in the file
    const uint8_t *data;          // [bytes], inside the mapping
    uint64_t bytes;
};

struct gguf;

// ERR_MODEL_FILES or ERR_UNSUPPORTED, one sentence that names the file and what is wrong with it.
err_id gguf_open(const char *path, struct gguf **gguf, struct error *e);
void gguf_close(struct gguf **gguf); // NULL inside is fine
// False: the file was cut off or its disk failed since it was opened; what was read there were zeros.
bool gguf_whole(const struct gguf *gguf);
// A regular file is taken for a GGUF file, a folder isn't.
bool gguf_is_file(const char *path);

const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_tensors(const struct gguf *g, uint64_t *count); // in the file's order
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name); // NULL: not there
// The whole mapping, and its first bytes_head bytes (metadata and tensor descriptions).
const uint8_t *gguf_bytes(const struct gguf *g, uint64_t *bytes, uint64_t *bytes_head);
const char *gguf_name(const struct gguf *g); // the file's name without folders, for messages

// Values. An absent key leaves *out as it is and says ERR_NONE; one of another kind is an ERR_MODEL_FILES that names it.
err_id gguf_u64(const struct gguf *g, const char *key, uint64_t *out, struct error *e); // any whole kind, not negative
err_id gguf_number(const struct gguf *g, const char *key, double *out, struct error *e);
err_id gguf_bool(const struct gguf *g, const char *key, bool *out, struct error *e);
err_id gguf_string(const struct gguf *g, const char *key, struct gguf_text *out, struct error *e);

// Walks an array of strings: *at starts as value->data; count elements may be taken.
struct gguf_text gguf_next_string(const uint8_t **at);
// Element i of an array of numbers, as a whole number (-1 for a float) or as a float.
int64_t gguf_element_int(const struct gguf_value *array, uint64_t i);
double gguf_element_number(const struct gguf_value *array, uint64_t i);

const char *gguf_type_name(enum gguf_type type);
