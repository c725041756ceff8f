// What a tensor set is made of: for the files that fill it (safetensors.c, tensors_gguf.c) and tensor_set.c.
#pragma once
#include "common/sys/file_map.h"
#include "worker/gguf/gguf.h"
#include "worker/model/safetensors.h"

struct mapped {
    char *name; // inside the folder
    const uint8_t *bytes;
    uint64_t size;
    struct file_map map;
};

struct tensor_set {
    struct mapped *files;
    uint32_t n_files;
    struct gguf *gguf; // the one file, or NULL; then files is empty
    struct tensor *tensors;
    uint64_t n_tensors, capacity;
    char source[128];
};

struct tensor *tensor_set_add(struct tensor_set *set, const char *name);
// By name; an error when two have the same.
err_id tensor_set_sort(struct tensor_set *set, struct error *e);

err_id safetensors_open(struct tensor_set *set, const char *folder, struct error *e);
err_id tensors_gguf_open(struct tensor_set *set, const char *path, struct error *e);
