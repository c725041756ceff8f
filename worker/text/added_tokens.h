// Added tokens: strings that are found in a text before anything else is done to it, leftmost first and the longest there,
// and become one id each. Two sets exist per tokenizer: those sought in the raw text, and (normalized) those sought after
// normalising. Immutable after building; searching keeps no state.
#pragma once
#include "worker/text/tokenizer.h"

struct added_token {
    uint32_t id;
    bool left_strip, right_strip; // takes the white space beside it too
    bool single_word;             // not inside a word
};

struct added_tokens {
    struct added_token *tokens; // owned
    size_t n_tokens;
    struct added_node *nodes; // a trie; owned
    size_t n_nodes;
    bool starts[256]; // by first byte
};

void added_tokens_fini(struct added_tokens *a);
// content: what to look for, not empty. A content given twice keeps the later token.
void added_tokens_add(struct added_tokens *a, const char *content, size_t len, const struct added_token *token);

struct added_match {
    size_t start, end; // of the text that becomes the token, stripped white space included
    uint32_t id;
};
// Finds the first match at or behind *at in s[0..n) and moves *at behind it. `taken` is where the last match ended (0 at
// first): white space before it is not taken again. Returns false when there is none.
bool added_tokens_next(const struct added_tokens *a, const char *s, size_t n, size_t *at, size_t taken,
                       struct added_match *match);
