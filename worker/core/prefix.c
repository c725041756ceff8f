#include "worker/core/prefix.h"

#include "common/base/hash.h"
#include "common/base/mark.h"

struct block_key prefix_root(uint64_t process, uint64_t tenant) {
    uint64_t salt = hash_mix(process + 1) ^ (tenant ? hash_mix(tenant) : 0);
    return (struct block_key){salt, hash_mix(~salt) | 1};
}

// The keys of the first n blocks, all of whose tokens are known.
static void make_keys(struct sequence *seq, uint32_t n, uint32_t block_tokens) {
    for (; seq->n_keys < n; seq->n_keys++) {
        const struct block_key *before = seq->n_keys == 0 ? &seq->salt : &seq->keys[seq->n_keys - 1];
        const uint32_t *tokens = seq->tokens + (size_t)seq->n_keys * block_tokens;
        struct block_key *key = &seq->keys[seq->n_keys];
        key->a = hash_bytes(tokens, block_tokens * sizeof *tokens, hash_mix(before->a + 1));
        key->b = hash_bytes(tokens, block_tokens * sizeof *tokens, hash_mix(before->b + 2)) | 1; // never no name
    }
}

static const uint32_t *tokens_of(const struct blocks *b, const struct sequence *seq, uint32_t block) {
    return seq->tokens + (size_t)block * b->block_tokens;
}

static bool claim(struct blocks *b, const struct sequence *seq, uint32_t i) {
    struct block_claim c = {.key = seq->keys[i], .before = i == 0 ? seq->salt : seq->keys[i - 1], .owner = seq->slot};
    c.tokens = tokens_of(b, seq, i);
    return blocks_claim(b, seq->blocks[i], &c);
}

void prefix_find(const struct blocks *b, struct sequence *seq, struct prefix_match *match) {
    uint32_t most = (seq->n_tokens - 1) / b->block_tokens;
    *match = (struct prefix_match){.claimed = BLOCK_NONE};
    if (seq->private_blocks) return;
    make_keys(seq, most, b->block_tokens);
    for (; match->n_blocks < most; match->n_blocks++) {
        uint32_t i = match->n_blocks, block = blocks_find(b, &seq->keys[i], tokens_of(b, seq, i));
        if (block == BLOCK_NONE) return;
        if (!b->block[block].ready) {
            match->claimed = block;
            return;
        }
        seq->blocks[i] = block;
    }
}

uint32_t prefix_held(const struct blocks *b, const struct sequence *seq, const struct prefix_match *match) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < match->n_blocks; i++) n += b->block[seq->blocks[i]].refs > 0;
    return n;
}

void prefix_claim(struct blocks *b, struct sequence *seq) {
    uint32_t full = seq->n_tokens / b->block_tokens;
    if (seq->private_blocks) return;
    make_keys(seq, full, b->block_tokens);
    for (uint32_t i = seq->n_named; i < full; i++) claim(b, seq, i);
}

void prefix_computed(struct blocks *b, struct sequence *seq) {
    uint32_t known = seq->computed < seq->n_tokens ? seq->computed : seq->n_tokens, full = known / b->block_tokens;
    if (seq->private_blocks) return;
    make_keys(seq, full, b->block_tokens);
    for (; seq->n_named < full; seq->n_named++) {
        uint32_t block = seq->blocks[seq->n_named];
        bool ours = block_is_named(b, block) || claim(b, seq, seq->n_named);
        if (ours)
            blocks_ready(b, block);
        else
            MARK(same_block_twice);
    }
}

void prefix_forget(struct blocks *b, struct sequence *seq) {
    seq->private_blocks = true;
    for (uint32_t i = 0; i < seq->n_blocks; i++) blocks_forget(b, seq->blocks[i]);
}
