#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_failed(const char *expression, const char *file, int line) {
    fprintf(stderr, "bug: %s:%d: %s does not hold\n", file, line, expression);
    abort();
}

static void *must(void *p, size_t size) {
    if (p == NULL && size > 0) {
        fprintf(stderr, "out of memory: %zu bytes refused\n", size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size) { return must(malloc(size), size); }
void *xcalloc(size_t count, size_t size) { return must(calloc(count, size), count && size ? 1 : 0); }
void *xrealloc(void *p, size_t size) { return must(realloc(p, size), size); }
char *xstrdup(const char *s) { return must(strdup(s), 1); }
