// CHECK: for what can only be a bug in Shoal itself. Always on; prints the expression and aborts. Never use it on
// input, on what a peer sent, or on what the operating system returned: those are errors (error.h).
#pragma once
#include <stddef.h>

_Noreturn void check_failed(const char *expression, const char *file, int line);

#define CHECK(e)     ((e) ? (void)0 : check_failed(#e, __FILE__, __LINE__))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

// malloc family that never returns NULL (aborts with a sentence): for start-up and for growth bounded by limits.h.
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
