// Design notes. Merging takes the pair of lowest rank, the leftmost of equals, until none is left. Short pieces, nearly all
// of them, are merged in an array with a linear search; long ones with a linked list and a heap of candidate merges, whose
// entries go stale when one of their symbols is merged away and are skipped then. Most pieces of a text are one token:
// bpe_prepare finds out which units are reached by merging their own text, so that those need one lookup and no merging.
#include "worker/text/bpe.h"

#include "common/base/check.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_MAX = 48 };

struct bpe_symbol {
    uint32_t id;
    uint32_t rank, merged; // of the pair with the right neighbour
    int32_t prev, next;    // long pieces; -1: none
    bool gone;
};

struct bpe_entry {
    uint32_t rank;
    uint32_t at; // left symbol
    uint32_t left, right;
    uint32_t merged;
};

void bpe_fini(struct bpe *b) {
    vocab_fini(&b->units);
    free(b->prefix);
    free(b->suffix);
    free(b->merges);
    free(b->whole);
    *b = (struct bpe){0};
}

void bpe_scratch_fini(struct bpe_scratch *s) {
    free(s->symbols);
    free(s->heap);
    buf_free(&s->unit);
    *s = (struct bpe_scratch){0};
}

// ---- merges ----

static uint32_t merge_slot(const struct bpe *b, uint64_t pair) {
    uint32_t mask = b->n_slots - 1;
    uint32_t i = (uint32_t)((pair * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (b->merges[i].rank != BPE_NO_RANK && b->merges[i].pair != pair) i = (i + 1) & mask;
    return i;
}

static void grow_merges(struct bpe *b) {
    struct bpe_merge *old = b->merges;
    uint32_t n_old = b->n_slots;
    b->n_slots = n_old ? n_old * 2 : 1024;
    b->merges = xmalloc(b->n_slots * sizeof *b->merges);
    for (uint32_t i = 0; i < b->n_slots; i++) b->merges[i] = (struct bpe_merge){.rank = BPE_NO_RANK};
    for (uint32_t i = 0; i < n_old; i++) {
        if (old[i].rank != BPE_NO_RANK) b->merges[merge_slot(b, old[i].pair)] = old[i];
    }
    free(old);
}

void bpe_add_merge(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged) {
    if (2 * (b->n_merges + 1) > b->n_slots) grow_merges(b);
    uint64_t pair = (uint64_t)left << 32 | right;
    struct bpe_merge *m = &b->merges[merge_slot(b, pair)];
    if (m->rank == BPE_NO_RANK) b->n_merges++;
    *m = (struct bpe_merge){pair, rank, merged};
}

static const struct bpe_merge *find_merge(const struct bpe *b, uint32_t left, uint32_t right) {
    static const struct bpe_merge none = {.rank = BPE_NO_RANK};
    if (b->n_slots == 0) return &none;
    return &b->merges[merge_slot(b, (uint64_t)left << 32 | right)];
}

// ---- the first symbols ----

static struct bpe_symbol *add_symbol(struct bpe_scratch *s, size_t n, uint32_t id) {
    if (n == s->cap_symbols) {
        s->cap_symbols = n ? n * 2 : 256;
        s->symbols = xrealloc(s->symbols, s->cap_symbols * sizeof *s->symbols);
    }
    s->symbols[n] = (struct bpe_symbol){.id = id, .rank = BPE_NO_RANK};
    return &s->symbols[n];
}

// The unit of one character (or byte) at its place in the piece.
static uint32_t unit_at(const struct bpe *b, struct bpe_scratch *s, const char *p, size_t n, bool first, bool last) {
    bool prefix = b->prefix != NULL && !first, suffix = b->suffix != NULL && last;
    if (!prefix && !suffix) return b->over_bytes ? b->byte_unit[(unsigned char)*p] : vocab_find(&b->units, p, n);
    buf_reset(&s->unit);
    if (prefix) buf_str(&s->unit, b->prefix);
    buf_append(&s->unit, p, n);
    if (suffix) buf_str(&s->unit, b->suffix);
    return vocab_find(&b->units, s->unit.data, s->unit.len);
}

static bool has_byte_units(const struct bpe *b, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (b->byte_unit[(unsigned char)p[i]] == TOKEN_NONE) return false;
    }
    return true;
}

// One symbol per byte or character. An unknown one is held until the next known one, because fuse_unknown makes one of a
// run; that symbols from byte fallback don't end such a run is how the reference does it.
static size_t first_symbols(const struct bpe *b, struct bpe_scratch *s, const char *piece, size_t len) {
    size_t n = 0, held = 0;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t step = b->over_bytes ? 1 : utf8_next(piece + i, len - i, &cp);
        uint32_t id = unit_at(b, s, piece + i, step, i == 0, i + step == len);
        if (id != TOKEN_NONE) {
            for (; held > 0; held--) add_symbol(s, n++, b->unknown);
            add_symbol(s, n++, id);
        } else if (b->byte_fallback && !b->over_bytes && has_byte_units(b, piece + i, step)) {
            for (size_t k = 0; k < step; k++) add_symbol(s, n++, b->byte_unit[(unsigned char)piece[i + k]]);
        } else if (b->unknown != TOKEN_NONE) {
            if (!b->fuse_unknown) {
                for (; held > 0; held--) add_symbol(s, n++, b->unknown);
            }
            held = 1;
        }
        i += step;
    }
    for (; held > 0; held--) add_symbol(s, n++, b->unknown);
    return n;
}

// ---- short pieces ----

static void pair_up(const struct bpe *b, struct bpe_symbol *left, const struct bpe_symbol *right) {
    const struct bpe_merge *m = find_merge(b, left->id, right->id);
    left->rank = m->rank, left->merged = m->merged;
}

static size_t merge_short(const struct bpe *b, struct bpe_symbol *s, size_t n) {
    for (size_t i = 0; i + 1 < n; i++) pair_up(b, &s[i], &s[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            if (s[i].rank < s[best].rank) best = i;
        }
        if (s[best].rank == BPE_NO_RANK) break;
        s[best].id = s[best].merged;
        s[best].rank = BPE_NO_RANK;
        n--;
        memmove(&s[best + 1], &s[best + 2], (n - best - 1) * sizeof *s);
        if (best + 1 < n) pair_up(b, &s[best], &s[best + 1]);
        if (best > 0) pair_up(b, &s[best - 1], &s[best]);
    }
    return n;
}

// ---- long pieces ----

static bool before(const struct bpe_entry *a, const struct bpe_entry *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static size_t heap_push(struct bpe_scratch *s, size_t n, struct bpe_entry entry) {
    if (n == s->cap_heap) {
        s->cap_heap = n ? n * 2 : 256;
        s->heap = xrealloc(s->heap, s->cap_heap * sizeof *s->heap);
    }
    size_t i = n;
    for (; i > 0 && before(&entry, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = entry;
    return n + 1;
}

static size_t heap_pop(struct bpe_entry *heap, size_t n) {
    struct bpe_entry last = heap[--n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return n;
}

static size_t offer(const struct bpe *b, struct bpe_scratch *s, size_t n_heap, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return n_heap;
    uint32_t l = s->symbols[left].id, r = s->symbols[right].id;
    const struct bpe_merge *m = find_merge(b, l, r);
    if (m->rank == BPE_NO_RANK) return n_heap;
    return heap_push(s, n_heap, (struct bpe_entry){m->rank, (uint32_t)left, l, r, m->merged});
}

static size_t merge_long(const struct bpe *b, struct bpe_scratch *s, size_t n) {
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        s->symbols[i].prev = (int32_t)i - 1;
        s->symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < n; i++) n_heap = offer(b, s, n_heap, (int32_t)i, (int32_t)i + 1);
    while (n_heap > 0) {
        struct bpe_entry top = s->heap[0];
        n_heap = heap_pop(s->heap, n_heap);
        struct bpe_symbol *left = &s->symbols[top.at];
        if (left->gone || left->id != top.left || left->next < 0 || s->symbols[left->next].id != top.right) continue;
        struct bpe_symbol *right = &s->symbols[left->next];
        left->id = top.merged;
        left->next = right->next;
        right->gone = true;
        if (left->next >= 0) s->symbols[left->next].prev = (int32_t)top.at;
        n_heap = offer(b, s, n_heap, left->prev, (int32_t)top.at);
        n_heap = offer(b, s, n_heap, (int32_t)top.at, left->next);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!s->symbols[i].gone) s->symbols[kept++].id = s->symbols[i].id;
    }
    return kept;
}

// ---- a piece ----

static size_t merge_piece(const struct bpe *b, struct bpe_scratch *s, const char *piece, size_t len) {
    size_t n = first_symbols(b, s, piece, len);
    return n <= SHORT_MAX ? merge_short(b, s->symbols, n) : merge_long(b, s, n);
}

void bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *piece, size_t len, struct ids *out) {
    uint32_t id = vocab_find(&b->units, piece, len);
    if (id != TOKEN_NONE && (b->ignore_merges || b->whole[id])) {
        ids_push(out, id);
        return;
    }
    size_t n = merge_piece(b, s, piece, len);
    for (size_t i = 0; i < n; i++) ids_push(out, s->symbols[i].id);
}

void bpe_prepare(struct bpe *b) {
    b->whole = xcalloc(b->units.n_ids ? b->units.n_ids : 1, 1);
    if (b->ignore_merges || b->prefix != NULL || b->suffix != NULL) return;
    struct bpe_scratch s = {0};
    for (uint32_t id = 0; id < b->units.n_ids; id++) {
        struct bytes unit = vocab_string(&b->units, id);
        if (unit.len == 0) continue;
        b->whole[id] = merge_piece(b, &s, unit.data, unit.len) == 1 && s.symbols[0].id == id;
    }
    bpe_scratch_fini(&s);
}
