// GGUF files broken in every way, for the fuzz target of that name: random mutations of what a writer makes.
#include "common/base/check.h"
#include "common/base/hash.h"
#include "tests/fuzz/target.h"
#include "tests/unit/worker/gguf/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 2000, MUTATIONS_MAX = 5 };

static uint64_t draw(uint64_t *seed, uint64_t below) {
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(*seed) % below;
}

static void mutate(struct buf *file, uint64_t head, uint64_t *seed) {
    static const uint64_t odd[] = {0,       1,         2,          31,        33,         255,
                                   1 << 16, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 31};
    size_t at = draw(seed, draw(seed, 8) == 0 ? file->len : head < file->len ? head : file->len), n = 1 + draw(seed, 8);
    if (n > file->len - at) n = file->len - at;
    uint64_t value = odd[draw(seed, ARRAY_LEN(odd))];
    switch (draw(seed, 5)) {
    case 0:
        file->data[at] = (char)draw(seed, 256);
        break;
    case 1:
        memcpy(file->data + at, &value, n);
        break;
    case 2:
        file->data[at] = (char)(file->data[at] ^ 1 << draw(seed, 8));
        break;
    case 3:
        file->len = at + 1;
        break;
    default: // bytes from elsewhere
        memmove(file->data + at, file->data + draw(seed, file->len - n + 1), n);
    }
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < ROUNDS; i++) {
        struct gguf_writer w;
        struct buf file = {0};
        writer_init(&w, seed);
        uint64_t head = 0;
        if (draw(&seed, 2) == 0) { // the small things alone, so that they are hit
            writer_string(&w, "general.architecture", "llama");
            writer_u32(&w, "llama.block_count", 1);
            writer_u32(&w, "general.alignment", 32);
            const char *tokens[] = {"a", "b", "ab"};
            writer_strings(&w, "tokenizer.ggml.tokens", tokens, 3);
            writer_tensor(&w, "token_embd.weight", (uint32_t)draw(&seed, 16), 256, 3);
            writer_tensor(&w, "rope_freqs.weight", 0, 8, 0);
        } else {
            static const enum gguf_type types[] = {GGUF_TYPE_F32, GGUF_TYPE_Q4_1, GGUF_TYPE_Q6_K};
            writer_tiny(&w, types[draw(&seed, ARRAY_LEN(types))]);
        }
        head = 24 + w.values.len + w.tensors.len;
        writer_finish(&w, &file);
        for (uint64_t n = 1 + draw(&seed, MUTATIONS_MAX); n > 0; n--) mutate(&file, head, &seed);
        LLVMFuzzerTestOneInput((const uint8_t *)file.data, file.len);
        buf_free(&file);
    }
    return 0;
}
