// A growing run of bytes: the one string builder of the project. `data` is always followed by a zero byte once something was
// appended, so it can be passed on as a C string when the content has no zero bytes of its own. Growth doubles and aborts
// when memory is gone (xrealloc); what may be appended is bounded by its users through their own named limits.
// Not thread-safe: one owner.
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; // owned; NULL until the first append
    size_t len; // bytes in use, without the zero byte that follows
    size_t cap; // bytes allocated
};

// Makes room for `more` bytes beyond len (and the zero byte). Returns where they go; len is unchanged.
char *buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *bytes, size_t n);
void buf_str(struct buf *b, const char *s); // without its zero byte
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));
// Drops the first n bytes (n <= len) by moving the rest to the front.
void buf_consume(struct buf *b, size_t n);
// Empties it and keeps the memory; always leaves a valid empty C string behind when memory was ever allocated.
void buf_reset(struct buf *b);
// Gives the memory back; the buf is empty and may be used again.
void buf_free(struct buf *b);
// Hands the memory over to the caller, who frees it; never NULL. The buf is empty afterwards.
char *buf_take(struct buf *b);
