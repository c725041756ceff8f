#include "worker/text/added_tokens.h"

#include "common/base/check.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

#include <stdlib.h>

enum { NO_NODE = 0, NO_TOKEN = -1 };

struct added_node {
    uint32_t child, sibling; // index; node 0 is the root, so that 0 also means none
    int32_t token;           // that ends here
    unsigned char byte;
};

void added_tokens_fini(struct added_tokens *a) {
    free(a->tokens);
    free(a->nodes);
    *a = (struct added_tokens){0};
}

static uint32_t new_node(struct added_tokens *a, unsigned char byte) {
    if ((a->n_nodes & (a->n_nodes - 1)) == 0) {
        a->nodes = xrealloc(a->nodes, (a->n_nodes ? a->n_nodes * 2 : 1) * sizeof *a->nodes);
    }
    a->nodes[a->n_nodes] = (struct added_node){.token = NO_TOKEN, .byte = byte};
    return (uint32_t)a->n_nodes++;
}

static uint32_t find_child(const struct added_tokens *a, uint32_t node, unsigned char byte) {
    uint32_t child = a->nodes[node].child;
    while (child != NO_NODE && a->nodes[child].byte != byte) child = a->nodes[child].sibling;
    return child;
}

void added_tokens_add(struct added_tokens *a, const char *content, size_t len, const struct added_token *token) {
    CHECK(len > 0);
    if (a->n_nodes == 0) new_node(a, 0);
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)content[i];
        uint32_t child = find_child(a, node, byte);
        if (child == NO_NODE) {
            child = new_node(a, byte);
            a->nodes[child].sibling = a->nodes[node].child;
            a->nodes[node].child = child;
        }
        node = child;
    }
    a->starts[(unsigned char)content[0]] = true;
    a->tokens = xrealloc(a->tokens, (a->n_tokens + 1) * sizeof *a->tokens);
    a->tokens[a->n_tokens] = *token;
    a->nodes[node].token = (int32_t)a->n_tokens++;
}

// The longest token that starts at s; its length, or 0.
static size_t longest_at(const struct added_tokens *a, const char *s, size_t n, int32_t *token) {
    size_t best = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = find_child(a, node, (unsigned char)s[i]);
        if (node == NO_NODE) break;
        if (a->nodes[node].token != NO_TOKEN) best = i + 1, *token = a->nodes[node].token;
    }
    return best;
}

static bool inside_word(const char *s, size_t n, size_t start, size_t end) {
    uint32_t cp;
    if (start > 0) {
        size_t last = utf8_prev(s, start);
        utf8_next(s + last, start - last, &cp);
        if (unicode_is_word(cp)) return true;
    }
    if (end == n) return false;
    utf8_next(s + end, n - end, &cp);
    return unicode_is_word(cp);
}

static size_t space_before(const char *s, size_t start, size_t taken) {
    while (start > taken) {
        uint32_t cp;
        size_t last = utf8_prev(s, start);
        utf8_next(s + last, start - last, &cp);
        if (!unicode_is_space(cp)) break;
        start = last;
    }
    return start;
}

static size_t space_behind(const char *s, size_t n, size_t end) {
    while (end < n) {
        uint32_t cp;
        size_t len = utf8_next(s + end, n - end, &cp);
        if (!unicode_is_space(cp)) break;
        end += len;
    }
    return end;
}

bool added_tokens_next(const struct added_tokens *a, const char *s, size_t n, size_t *at, size_t taken,
                       struct added_match *match) {
    for (size_t i = *at; a->n_tokens > 0 && i < n; i++) {
        if (!a->starts[(unsigned char)s[i]]) continue;
        int32_t index;
        size_t len = longest_at(a, s + i, n - i, &index);
        if (len == 0) continue;
        const struct added_token *token = &a->tokens[index];
        size_t start = i, end = i + len;
        if (token->single_word && inside_word(s, n, start, end)) {
            i = end - 1; // the match counts for the search although it is dropped
            continue;
        }
        *at = end;
        if (token->left_strip) start = space_before(s, start, taken);
        if (token->right_strip) end = space_behind(s, n, end);
        *match = (struct added_match){start, end, token->id};
        return true;
    }
    return false;
}
