#include "tests/unit/worker/gguf/writer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/gguf/types.h"

static uint64_t draw(uint64_t *seed) { return hash_mix(*seed += UINT64_C(0x9e3779b97f4a7c15)); }

void writer_init(struct gguf_writer *w, uint64_t seed) {
    *w = (struct gguf_writer){.seed = seed, .version = 3, .alignment = 32};
}

static void put(struct buf *b, uint64_t v, size_t bytes) { buf_append(b, &v, bytes); }
static void put_text(struct buf *b, const char *s) {
    put(b, strlen(s), 8);
    buf_str(b, s);
}
static void begin(struct gguf_writer *w, const char *key, enum gguf_kind kind) {
    put_text(&w->values, key);
    put(&w->values, kind, 4);
    w->n_values++;
}

void writer_u32(struct gguf_writer *w, const char *key, uint32_t value) {
    begin(w, key, GGUF_U32);
    put(&w->values, value, 4);
}
void writer_f32(struct gguf_writer *w, const char *key, float value) {
    begin(w, key, GGUF_F32);
    buf_append(&w->values, &value, 4);
}
void writer_bool(struct gguf_writer *w, const char *key, bool value) {
    begin(w, key, GGUF_BOOL);
    put(&w->values, value, 1);
}
void writer_string(struct gguf_writer *w, const char *key, const char *value) {
    begin(w, key, GGUF_STRING);
    put_text(&w->values, value);
}
void writer_strings(struct gguf_writer *w, const char *key, const char *const *list, uint64_t n) {
    begin(w, key, GGUF_ARRAY);
    put(&w->values, GGUF_STRING, 4);
    put(&w->values, n, 8);
    for (uint64_t i = 0; i < n; i++) put_text(&w->values, list[i]);
}
void writer_numbers(struct gguf_writer *w, const char *key, enum gguf_kind kind, const void *list, uint64_t n) {
    begin(w, key, GGUF_ARRAY);
    put(&w->values, kind, 4);
    put(&w->values, n, 8);
    buf_append(&w->values, list, 4 * n);
}

static void put_half(uint64_t *seed, uint8_t *to) { // around 2^-6, either sign
    uint16_t h = (uint16_t)(9 << 10 | (draw(seed) & 0x83ff));
    memcpy(to, &h, 2);
}

void writer_blocks(uint64_t *seed, enum gguf_type type, uint64_t count, uint8_t *out) {
    uint32_t bytes = gguf_types[type].bytes;
    for (uint64_t b = 0; b < count; b++, out += bytes) {
        for (uint32_t i = 0; i < bytes; i++) out[i] = (uint8_t)draw(seed);
        if (type == GGUF_TYPE_F32 || type == GGUF_TYPE_BF16) { // bf16's two bytes are the upper ones of fp32's four
            out[bytes - 1] = (uint8_t)((draw(seed) & 0x80) | 0x3d);
        } else if (type == GGUF_TYPE_Q6_K) {
            put_half(seed, out + 208);
        } else {
            put_half(seed, out);
            bool two = type == GGUF_TYPE_Q4_1 || type == GGUF_TYPE_Q5_1 || type == GGUF_TYPE_Q4_K || type == GGUF_TYPE_Q5_K;
            if (two) put_half(seed, out + 2);
        }
    }
}

void writer_tensor(struct gguf_writer *w, const char *name, uint32_t number, uint64_t cols, uint64_t rows) {
    while (w->data.len % w->alignment != 0) buf_char(&w->data, 0);
    put_text(&w->tensors, name);
    put(&w->tensors, rows == 0 ? 1 : 2, 4);
    put(&w->tensors, cols, 8);
    if (rows > 0) put(&w->tensors, rows, 8);
    put(&w->tensors, number, 4);
    put(&w->tensors, w->data.len, 8);
    w->n_tensors++;
    enum gguf_type type = GGUF_TYPE_F32;
    gguf_type_of(number, &type);
    for (uint64_t i = 0; rows == 0 && i < cols; i++) {
        float f = 0.75f + (float)(draw(&w->seed) % 1024) / 2048;
        buf_append(&w->data, &f, 4);
    }
    uint64_t blocks = cols / gguf_types[type].block * rows, bytes = blocks * gguf_types[type].bytes;
    writer_blocks(&w->seed, type, blocks, (uint8_t *)buf_reserve(&w->data, bytes));
    w->data.len += bytes;
}

void writer_finish(struct gguf_writer *w, struct buf *out) {
    buf_str(out, "GGUF");
    put(out, w->version, 4);
    put(out, w->n_tensors, 8);
    put(out, w->n_values, 8);
    buf_append(out, w->values.data, w->values.len);
    buf_append(out, w->tensors.data, w->tensors.len);
    while (out->len % w->alignment != 0) buf_char(out, 0);
    buf_append(out, w->data.data, w->data.len);
    buf_free(&w->values);
    buf_free(&w->tensors);
    buf_free(&w->data);
}

// Bytes as GPT-2 spells them, then 44 tokens of two letters.
static void tiny_tokenizer(struct gguf_writer *w) {
    static char names[TINY_VOCAB][8];
    static const char *list[TINY_VOCAB], *merges[TINY_VOCAB];
    static char merge[TINY_VOCAB][8];
    int32_t types[TINY_VOCAB];
    uint64_t n_merges = 0;
    uint32_t shifted = 256;
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        bool printable = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || (i >= 174 && i < 256);
        uint32_t c = i >= 256 || printable ? i : shifted++;
        if (i < 256 && c < 128) {
            snprintf(names[i], sizeof names[i], "%c", (char)c);
        } else if (i < 256) {
            snprintf(names[i], sizeof names[i], "%c%c", (char)(0xc0 | c >> 6), (char)(0x80 | (c & 63)));
        } else {
            char a = (char)('a' + i % 26), b = (char)('a' + (i - 256) / 26);
            snprintf(names[i], sizeof names[i], "%c%c", a, b);
            snprintf(merge[n_merges], sizeof merge[0], "%c %c", a, b);
            merges[n_merges] = merge[n_merges];
            n_merges++;
        }
        types[i] = i == 1 ? 3 : 1;
        list[i] = names[i];
    }
    writer_string(w, "tokenizer.ggml.model", "gpt2");
    writer_string(w, "tokenizer.ggml.pre", "smollm");
    writer_strings(w, "tokenizer.ggml.tokens", list, TINY_VOCAB);
    writer_numbers(w, "tokenizer.ggml.token_type", GGUF_I32, types, TINY_VOCAB);
    writer_strings(w, "tokenizer.ggml.merges", merges, n_merges);
    writer_u32(w, "tokenizer.ggml.eos_token_id", 1);
    writer_string(w, "tokenizer.chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}");
}

void writer_tiny(struct gguf_writer *w, enum gguf_type type) {
    static const struct {
        const char *name;
        uint64_t cols, rows;
    } layer[] = {
        {"attn_norm", 256, 0},  {"attn_q", 256, 64},      {"attn_k", 256, 32},
        {"attn_v", 256, 32},    {"attn_output", 64, 256}, {"ffn_norm", 256, 0},
        {"ffn_gate", 256, 256}, {"ffn_up", 256, 256},     {"ffn_down", 256, 256},
    };
    writer_string(w, "general.architecture", "llama");
    writer_u32(w, "llama.block_count", TINY_LAYERS);
    writer_u32(w, "llama.context_length", 512);
    writer_u32(w, "llama.embedding_length", TINY_HIDDEN);
    writer_u32(w, "llama.feed_forward_length", 256);
    writer_u32(w, "llama.attention.head_count", 4);
    writer_u32(w, "llama.attention.head_count_kv", 2);
    writer_u32(w, "llama.attention.key_length", 16);
    writer_u32(w, "llama.attention.value_length", 16);
    writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_tokenizer(w);
    uint32_t number = gguf_types[type].number;
    writer_tensor(w, "token_embd.weight", number, TINY_HIDDEN, TINY_VOCAB);
    for (int l = 0; l < TINY_LAYERS; l++) {
        for (size_t i = 0; i < ARRAY_LEN(layer); i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, layer[i].name);
            bool fits = layer[i].rows > 0 && layer[i].cols % gguf_types[type].block == 0;
            writer_tensor(w, name, fits ? number : gguf_types[layer[i].rows > 0 ? GGUF_TYPE_Q8_0 : GGUF_TYPE_F32].number,
                          layer[i].cols, layer[i].rows);
        }
    }
    writer_tensor(w, "output_norm.weight", 0, TINY_HIDDEN, 0);
}

char *writer_tiny_file(enum gguf_type type, uint64_t seed) {
    char *path = xstrdup("/tmp/shoal-gguf-XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    struct gguf_writer w;
    struct buf file = {0};
    writer_init(&w, seed);
    writer_tiny(&w, type);
    writer_finish(&w, &file);
    CHECK(write(fd, file.data, file.len) == (ssize_t)file.len);
    close(fd);
    buf_free(&file);
    return path;
}
