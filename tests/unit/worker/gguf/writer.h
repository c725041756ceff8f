// Writes GGUF files for tests: metadata and tensors in the order of the calls. The tiny model is of Llama's kind, with a
// byte-level tokenizer of 300 tokens; its weights are random blocks of one type with harmless scales.
#pragma once
#include "common/base/buf.h"
#include "worker/gguf/gguf.h"

struct gguf_writer {
    struct buf values, tensors, data;
    uint64_t n_values, n_tensors, seed;
    uint32_t version, alignment;
};

void writer_init(struct gguf_writer *w, uint64_t seed);
void writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void writer_f32(struct gguf_writer *w, const char *key, float value);
void writer_bool(struct gguf_writer *w, const char *key, bool value);
void writer_string(struct gguf_writer *w, const char *key, const char *value);
void writer_strings(struct gguf_writer *w, const char *key, const char *const *list, uint64_t n);
void writer_numbers(struct gguf_writer *w, const char *key, enum gguf_kind kind, const void *list, uint64_t n);
// cols innermost; rows 0: a vector of F32 near 1. type: as numbered in the file; its bytes are drawn from the seed.
void writer_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint64_t cols, uint64_t rows);
// The whole file; the writer is empty afterwards.
void writer_finish(struct gguf_writer *w, struct buf *out);

// Blocks of random bits whose fp16 scales are small numbers. type: enum gguf_type; count: blocks.
void writer_blocks(uint64_t *seed, enum gguf_type type, uint64_t count, uint8_t *out);

enum { TINY_VOCAB = 300, TINY_HIDDEN = 256, TINY_LAYERS = 2 };
void writer_tiny(struct gguf_writer *w, enum gguf_type type);
// writer_tiny into a new file under /tmp; the caller removes it and frees the name.
char *writer_tiny_file(enum gguf_type type, uint64_t seed);
