// Python's string operations on UTF-8, as filters and methods of strings both need them. Pure; results are appended to *out.
#pragma once
#include "common/base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void jstring_upper(const char *s, size_t n, struct buf *out);
void jstring_lower(const char *s, size_t n, struct buf *out);
void jstring_capitalize(const char *s, size_t n, struct buf *out);
void jstring_title(const char *s, size_t n, struct buf *out);       // str.title: upper case behind what has no case
void jstring_title_words(const char *s, size_t n, struct buf *out); // the filter: behind white space and - ( { [ <
void jstring_swapcase(const char *s, size_t n, struct buf *out);
// The part of s without these characters (NULL: white space) on the left, the right.
void jstring_strip(const char **s, size_t *n, const char *chars, size_t n_chars, bool left, bool right);
// Length of the line break at s (1..4 bytes, "\r\n" is one), 0: none. str.splitlines's idea of one.
size_t jstring_line_break(const char *s, size_t n);
size_t jstring_space(const char *s, size_t n); // length of the white space character at s, 0: none. str.isspace
enum jstring_class { JSTRING_ALPHA, JSTRING_DIGIT, JSTRING_ALNUM, JSTRING_SPACE, JSTRING_UPPER, JSTRING_LOWER };
bool jstring_is(enum jstring_class class, const char *s, size_t n);
