#include "tests/sim/heap.h"

#include <malloc.h>
#include <string.h>

enum { FRESH = 0xa5, FREED = 0xdf };

static uint64_t blocks;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

uint64_t heap_blocks(void) { return blocks; }

void *__wrap_malloc(size_t size) {
    void *p = __real_malloc(size);
    if (p == NULL) return NULL;
    blocks++;
    return memset(p, FRESH, size);
}

void *__wrap_calloc(size_t count, size_t size) {
    void *p = __real_calloc(count, size);
    blocks += p != NULL;
    return p;
}

void __wrap_free(void *p) {
    if (p == NULL) return;
    blocks--;
    memset(p, FREED, malloc_usable_size(p));
    __real_free(p);
}

// Always moves: a pointer to the old place is wrong from now on.
void *__wrap_realloc(void *p, size_t size) {
    void *moved = __wrap_malloc(size);
    if (p == NULL || moved == NULL) return moved;
    size_t had = malloc_usable_size(p);
    memcpy(moved, p, had < size ? had : size);
    __wrap_free(p);
    return moved;
}
