// A vocabulary as a grammar sees it: token id → the bytes that it stands for in the middle of a text, sorted into a trie, so
// that all tokens that a grammar allows are found in one walk. Tokens without bytes (special ones, holes) are never allowed.
// "Plain" tokens are whole UTF-8 characters that mean themselves inside a JSON string (no quote, backslash or control
// character): most of a vocabulary, and all allowed at once wherever any text may go on. Immutable, for any thread.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct trie_node {                  // in depth-first order
    uint32_t skip;                  // index behind this node's subtree
    uint32_t first_token, n_tokens; // in trie.tokens: those that end here
    uint16_t depth;                 // 0: below the root
    uint8_t byte;
};

struct trie {
    struct trie_node *nodes;
    uint32_t n_nodes;
    uint32_t *tokens;
    uint32_t n_tokens;
};

struct vocabulary {
    uint32_t n_ids, words; // words: 32-bit words of a mask
    struct trie all, rest; // rest: without the plain tokens
    uint32_t *plain_mask;  // [words]
    uint32_t *plain;       // plain tokens, those of the fewest characters first
    uint32_t n_plain;
    uint32_t *plain_end; // [chars_max + 1]: how many plain tokens have at most so many characters
    uint32_t chars_max;  // of a plain token
    uint32_t bytes_max;  // of any token
    const char **bytes;  // by id; borrowed from the source
    uint32_t *lens;
};

enum { VOCABULARY_TOKEN_BYTES_MAX = 1024 }; // a longer token is never allowed

// Says a token's bytes and *len; 0: never part of a text. The bytes must outlive the vocabulary.
typedef const char *vocabulary_bytes(void *ctx, uint32_t id, size_t *len);

struct vocabulary *vocabulary_create(uint32_t n_ids, vocabulary_bytes *bytes, void *ctx);
void vocabulary_destroy(struct vocabulary *v); // NULL is fine
