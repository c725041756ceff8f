// Writes small random Hugging Face model folders for tests: config.json as given and every tensor that its spec calls for.
#pragma once
#include <stdint.h>

enum tiny_dtype { TINY_BF16, TINY_F32, TINY_F16 };

// A new folder under the temporary directory; the caller frees the name after tiny_model_remove. The same seed gives the
// same weights. poison_token: its embedding is NaN (UINT32_MAX: none).
char *tiny_model_write(const char *config_json, uint64_t seed, enum tiny_dtype dtype, uint32_t poison_token);
// As above, but all tensors that the layers [first, end) don't need are NaN: who reads one of them shows it.
char *tiny_model_write_part(const char *config_json, uint64_t seed, uint32_t first, uint32_t end);
void tiny_model_remove(char *folder);

// Configs: DeepSeek V3 (query compression, groups, yarn), V2-Lite-shaped, Llama 3 (GQA, rope scaling), Qwen 2 (biases,
// tied), Qwen 3 (query and key norms, head_dim on its own), Mistral (sliding window).
extern const char tiny_v3[], tiny_v2[], tiny_llama[], tiny_qwen2[], tiny_qwen3[], tiny_mistral[];
