// The tensor types of GGUF: numbers and names as in ggml, and the sizes of those that this program reads.
#pragma once
#include "worker/gguf/gguf.h"

struct gguf_type_facts {
    const char *name;
    uint32_t number;       // in the file
    uint32_t block, bytes; // elements and bytes of a block
};
extern const struct gguf_type_facts gguf_types[GGUF_TYPES];

// False for a type that is not read.
bool gguf_type_of(uint32_t number, enum gguf_type *type);
// The name of one that is not read: ggml's, or its number where ggml has none (written into spare).
const char *gguf_unsupported_name(uint32_t number, char spare[24]);
