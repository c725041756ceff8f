// Building the trie: tokens sorted by their bytes, each sharing its beginning with the one before it. Plain tokens are kept
// apart, by their number of characters.
#include "worker/grammar/vocabulary.h"
#include "common/base/check.h"
#include "worker/grammar/utf8_ranges.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int by_bytes(const void *a, const void *b, void *ctx) {
    const struct vocabulary *v = ctx;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b, n = v->lens[x] < v->lens[y] ? v->lens[x] : v->lens[y];
    int order = memcmp(v->bytes[x], v->bytes[y], n);
    if (order != 0) return order;
    if (v->lens[x] != v->lens[y]) return v->lens[x] < v->lens[y] ? -1 : 1;
    return x < y ? -1 : x > y;
}

// Closes the subtrees of `path` that are at least `depth` deep.
static void close_path(struct trie *t, const uint32_t *path, uint32_t from, uint32_t depth) {
    for (uint32_t d = depth; d < from; d++) t->nodes[path[d]].skip = t->n_nodes;
}

// ids: sorted by their bytes; taken over.
static void trie_build(struct trie *t, const struct vocabulary *v, uint32_t *ids, uint32_t n) {
    size_t most = 1;
    for (uint32_t i = 0; i < n; i++) most += v->lens[ids[i]];
    *t = (struct trie){.nodes = xmalloc(most * sizeof *t->nodes), .tokens = ids, .n_tokens = n};
    uint32_t path[VOCABULARY_TOKEN_BYTES_MAX], depth = 0;
    const char *last = "";
    for (uint32_t i = 0; i < n; i++) {
        const char *s = v->bytes[ids[i]];
        uint32_t len = v->lens[ids[i]], common = 0;
        while (common < depth && common < len && s[common] == last[common]) common++;
        close_path(t, path, depth, common);
        for (depth = common; depth < len; depth++) {
            path[depth] = t->n_nodes;
            t->nodes[t->n_nodes++] = (struct trie_node){.depth = (uint16_t)depth, .byte = (uint8_t)s[depth]};
        }
        struct trie_node *end = &t->nodes[path[len - 1]];
        if (end->n_tokens++ == 0) end->first_token = i;
        last = s;
    }
    close_path(t, path, depth, 0);
    t->nodes = xrealloc(t->nodes, (t->n_nodes + 1) * sizeof *t->nodes);
}

// Characters, if all of them are whole and plain; else 0.
static uint32_t plain_chars(const char *s, uint32_t len) {
    uint32_t chars = 0;
    for (uint32_t at = 0; at < len; chars++) {
        uint32_t cp, n = utf8_read(s + at, len - at, &cp);
        if (n == 0 || cp < 0x20 || cp == '"' || cp == '\\') return 0;
        at += n;
    }
    return chars;
}

// Fills plain, plain_end and plain_mask; chars: by id.
static void sort_plain(struct vocabulary *v, const uint32_t *chars) {
    for (uint32_t i = 0; i < v->n_ids; i++) v->chars_max = chars[i] > v->chars_max ? chars[i] : v->chars_max;
    v->plain_end = xcalloc(v->chars_max + 1, sizeof *v->plain_end);
    for (uint32_t i = 0; i < v->n_ids; i++)
        if (chars[i] > 0) v->plain_end[chars[i]]++, v->n_plain++;
    for (uint32_t c = 1; c <= v->chars_max; c++) v->plain_end[c] += v->plain_end[c - 1];
    v->plain = xmalloc((v->n_plain + 1) * sizeof *v->plain);
    uint32_t *at = xcalloc(v->chars_max + 1, sizeof *at);
    for (uint32_t i = 0; i < v->n_ids; i++) {
        if (chars[i] == 0) continue;
        v->plain[v->plain_end[chars[i] - 1] + at[chars[i]]++] = i;
        v->plain_mask[i / 32] |= UINT32_C(1) << i % 32;
    }
    free(at);
}

struct vocabulary *vocabulary_create(uint32_t n_ids, vocabulary_bytes *bytes, void *ctx) {
    struct vocabulary *v = xcalloc(1, sizeof *v);
    v->n_ids = n_ids;
    v->words = (n_ids + 31) / 32;
    v->bytes = xcalloc(n_ids + 1, sizeof *v->bytes);
    v->lens = xcalloc(n_ids + 1, sizeof *v->lens);
    v->plain_mask = xcalloc(v->words + 1, sizeof *v->plain_mask);
    uint32_t *all = xmalloc((n_ids + 1) * sizeof *all), *rest = xmalloc((n_ids + 1) * sizeof *rest), n_all = 0, n_rest = 0;
    uint32_t *chars = xcalloc(n_ids + 1, sizeof *chars);
    for (uint32_t id = 0; id < n_ids; id++) {
        size_t len = 0;
        const char *s = bytes(ctx, id, &len);
        if (len == 0 || len > VOCABULARY_TOKEN_BYTES_MAX) continue;
        v->bytes[id] = s;
        v->lens[id] = (uint32_t)len;
        v->bytes_max = len > v->bytes_max ? (uint32_t)len : v->bytes_max;
        chars[id] = plain_chars(s, (uint32_t)len);
        all[n_all++] = id;
    }
    qsort_r(all, n_all, sizeof *all, by_bytes, v);
    for (uint32_t i = 0; i < n_all; i++)
        if (chars[all[i]] == 0) rest[n_rest++] = all[i];
    trie_build(&v->all, v, all, n_all);
    trie_build(&v->rest, v, rest, n_rest);
    sort_plain(v, chars);
    free(chars);
    return v;
}

void vocabulary_destroy(struct vocabulary *v) {
    if (v == NULL) return;
    free(v->all.nodes);
    free(v->all.tokens);
    free(v->rest.nodes);
    free(v->rest.tokens);
    free(v->plain_mask);
    free(v->plain);
    free(v->plain_end);
    free(v->bytes);
    free(v->lens);
    free(v);
}
