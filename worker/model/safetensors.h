// Tensors of a model, mapped into memory: of a Hugging Face folder (model.safetensors alone, or model.safetensors.index.json
// and its shards; github.com/huggingface/safetensors) or of a GGUF file, whose tensors get the names that they have in such
// a folder. Headers are validated whole before a byte of data is looked at.
#pragma once
#include <stdint.h>
#include "common/base/error.h"
#include "worker/model/dtype.h"

enum { TENSOR_DIMS_MAX = 8, SAFETENSORS_HEADER_MAX = 100 << 20 };

struct tensor {
    char *name;
    enum dtype dtype;
    uint32_t n_dims;
    uint64_t dims[TENSOR_DIMS_MAX];
    const uint8_t *data; // not aligned to more than a byte; lives as long as the set
    uint64_t bytes;
    // F8_E4M3 with scales: element [r][c] is worth value times scale[r / block[0]][c / block[1]]; else NULL.
    const struct tensor *scale;
    uint32_t block[2];
};

// Element i, counted along rows, as a float. Not of the block types of GGUF and quant.h.
float tensor_element(const struct tensor *t, uint64_t i);

struct tensor_set;

// Maps the tensors of a folder or a GGUF file. ERR_MODEL_FILES names the file and what is wrong with it.
err_id tensor_set_open(const char *path, struct tensor_set **set, struct error *e);
void tensor_set_close(struct tensor_set **set);
// ERR_MODEL_FILES: a file was cut off or its disk failed since it was opened, and zeros were read. To be asked after
// reading.
err_id tensor_set_check(const struct tensor_set *set, struct error *e);
const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name);
// Gives every two-dimensional F8_E4M3 tensor X.weight the tensor X.weight_scale_inv as its scale.
void tensor_set_scale(struct tensor_set *set, const uint32_t block[2]);
// Says that two-dimensional U8 tensors are rows of this type (quant.h).
void tensor_set_quantised(struct tensor_set *set, enum dtype dtype);
// All tensors, sorted by name.
const struct tensor *tensor_set_all(const struct tensor_set *set, uint64_t *count);
// "model.safetensors", or the name of the index or of the GGUF file, for messages.
const char *tensor_set_source(const struct tensor_set *set);
// XXH3-128 over the tensors' names, types, shapes, the files' sizes and sampled pages (and all of a GGUF file's metadata),
// as 32 hexadecimal digits.
void tensor_set_fingerprint(const struct tensor_set *set, char text[33]);
