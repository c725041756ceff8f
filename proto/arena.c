// The codec's arena: a chain of blocks, each at least twice as large as the one before, so that what has grown once fits the
// newest block the next time.
#include "proto/codec_internal.h"

#include <stdlib.h>

struct codec_block {
    struct codec_block *older;
    size_t cap; // bytes behind this header
    bool borrowed;
    _Alignas(16) uint8_t data[];
};

void codec_arena_borrow(struct codec_arena *arena, void *memory, size_t size) {
    struct codec_block *b = memory;
    *b = (struct codec_block){.cap = size - sizeof *b, .borrowed = true};
    *arena = (struct codec_arena){.current = b, .total = b->cap};
}

static bool grow(struct codec_arena *arena, size_t n) {
    size_t cap = arena->current ? arena->current->cap * 2 : CODEC_ARENA_FIRST;
    if (cap < n) cap = n;
    if (cap > CODEC_ARENA_MAX - arena->total) cap = CODEC_ARENA_MAX - arena->total;
    if (cap < n) return false;
    struct codec_block *b = malloc(sizeof *b + cap);
    if (b == NULL) return false;
    *b = (struct codec_block){.older = arena->current, .cap = cap};
    arena->current = b;
    arena->used = 0;
    arena->total += cap;
    return true;
}

void *codec_arena_alloc(struct codec_arena *arena, size_t n) {
    if (n > CODEC_ARENA_MAX) return NULL;
    n = (n + 15) & ~(size_t)15;
    if ((arena->current == NULL || arena->current->cap - arena->used < n) && !grow(arena, n)) return NULL;
    void *p = arena->current->data + arena->used;
    arena->used += n;
    return p;
}

static void free_chain(struct codec_block *b) {
    while (b != NULL) {
        struct codec_block *older = b->older;
        if (!b->borrowed) free(b);
        b = older;
    }
}

void codec_arena_reset(struct codec_arena *arena) {
    struct codec_block *b = arena->current;
    if (b == NULL) return;
    free_chain(b->older);
    b->older = NULL;
    arena->used = 0;
    arena->total = b->cap;
    if (b->cap > CODEC_ARENA_KEEP) codec_arena_free(arena);
}

void codec_arena_free(struct codec_arena *arena) {
    free_chain(arena->current);
    *arena = (struct codec_arena){0};
}

static void *pb_alloc(void *arena, size_t n) { return codec_arena_alloc(arena, n); }
static void pb_free(void *arena, void *p) { (void)arena, (void)p; }

ProtobufCAllocator codec_arena_allocator(struct codec_arena *arena) {
    return (ProtobufCAllocator){.alloc = pb_alloc, .free = pb_free, .allocator_data = arena};
}
