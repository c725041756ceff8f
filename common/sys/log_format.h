// How a log line is built, apart from where it goes (log.c): pure, on the caller's stack, so tests can look at the bytes.
#pragma once
#include "common/sys/log.h"

#include <stdarg.h>
#include <stddef.h>

enum { LOG_LINE_RESERVE = 64 }; // kept free for closing a line that is too long

struct log_line {
    char data[LOG_LINE_MAX];
    size_t len;
    bool full;
    enum log_format format;
};

void log_line_begin(struct log_line *line, enum log_format format, const char *time, const char *level, const char *id);
// One pair. number: the value may stand unquoted in JSON if it is a JSON number.
void log_line_pair(struct log_line *line, const char *key, size_t key_len, const char *value, size_t len, bool number);
// The pairs of a format as log_write describes it.
void log_line_pairs(struct log_line *line, const char *format, va_list *ap);
void log_line_end(struct log_line *line); // closes the line; data[len - 1] is '\n'
