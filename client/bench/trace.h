// A recorded load: when requests came and how long they were. Two published forms are read, told apart by their first byte:
//   Azure CSV        TIMESTAMP,ContextTokens,GeneratedTokens (github.com/Azure/AzurePublicDataset, LLM inference traces)
//   Mooncake JSONL   {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": […]}, where equal ids at the
//                    beginning are equal blocks of 512 tokens (github.com/kvcache-ai/Mooncake)
#pragma once
#include "common/base/error.h"

#include <stdint.h>

enum { TRACE_BLOCK_TOKENS = 512, TRACE_REQUESTS_MAX = 4 << 20, TRACE_TOKENS_MAX = 4 << 20 };

struct trace_request {
    double at_s; // since the first
    uint32_t prompt_tokens, output_tokens;
    uint32_t first_block, n_blocks; // of trace.blocks; n_blocks 0: nothing is known of shared beginnings
};

struct trace {
    struct trace_request *requests; // by time
    uint32_t n;
    uint64_t *blocks;
    uint32_t n_blocks;
};

// ERR_INVALID_ARGUMENT with the line that can't be read; ERR_SYSTEM when the file can't.
err_id trace_load(const char *path, struct trace *out, struct error *e);
void trace_free(struct trace *t);
