#include "worker/core/sequence.h"

#include "common/base/check.h"
#include "worker/core/blocks.h"
#include "worker/core/slots.h"

#include <stdlib.h>
#include <string.h>

void sequence_init(struct sequence *seq, const uint32_t *prompt, uint32_t n_prompt, uint32_t max_tokens,
                   uint32_t block_tokens) {
    CHECK(n_prompt > 0 && max_tokens > 0 && max_tokens <= UINT32_MAX - n_prompt);
    *seq = (struct sequence){.n_tokens = n_prompt, .n_prompt = n_prompt, .slot = SLOT_NONE, .age = SEQUENCE_AGE_NONE};
    seq->tokens_max = n_prompt + max_tokens;
    seq->pause_at = UINT32_MAX;
    seq->tokens = xmalloc(seq->tokens_max * sizeof *seq->tokens);
    memcpy(seq->tokens, prompt, n_prompt * sizeof *prompt);
    uint32_t blocks = blocks_for(seq->tokens_max, block_tokens);
    seq->blocks = xmalloc(blocks * sizeof *seq->blocks);
    seq->keys = xmalloc(blocks * sizeof *seq->keys);
    seq->waits_for = BLOCK_NONE;
}

void sequence_append(struct sequence *seq, uint32_t token) {
    CHECK(seq->n_tokens < seq->tokens_max);
    seq->tokens[seq->n_tokens++] = token;
}

void sequence_fini(struct sequence *seq) {
    CHECK(seq->n_blocks == 0 && seq->in_flight == 0);
    free(seq->tokens);
    free(seq->blocks);
    free(seq->keys);
    seq->tokens = seq->blocks = NULL;
    seq->keys = NULL;
}

static bool waits_for_token(const struct sequence *seq) { return seq->one_by_one && seq->unsampled > 0; }

bool sequence_may_run(const struct sequence *seq) {
    if (seq->held || seq->restoring || waits_for_token(seq)) return false;
    uint32_t end = seq->pause_at < seq->tokens_max ? seq->pause_at : seq->tokens_max;
    return seq->n_tokens + seq->unsampled < end;
}

bool sequence_paused(const struct sequence *seq) {
    return !sequence_may_run(seq) && !seq->restoring && !waits_for_token(seq) &&
           seq->n_tokens + seq->unsampled < seq->tokens_max;
}

bool sequence_decodes(const struct sequence *seq) { return seq->planned >= seq->opened_with; }

uint32_t sequence_prefill_left(const struct sequence *seq) {
    if (seq->slot == SLOT_NONE || seq->restoring) return seq->n_tokens - seq->n_restored;
    return seq->opened_with > seq->computed ? seq->opened_with - seq->computed : 0;
}
