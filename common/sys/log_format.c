#include "common/sys/log_format.h"

#include "common/base/check.h"
#include "common/sys/utf8.h"

#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void force(struct log_line *line, const char *bytes, size_t n) {
    CHECK(line->len + n <= sizeof line->data);
    memcpy(line->data + line->len, bytes, n);
    line->len += n;
}

// Appends all n bytes or, when they don't fit, none, and takes nothing more.
static void put(struct log_line *line, const char *bytes, size_t n) {
    if (line->full || line->len + n > sizeof line->data - LOG_LINE_RESERVE)
        line->full = true;
    else
        force(line, bytes, n);
}

static void put_text(struct log_line *line, const char *s) { put(line, s, strlen(s)); }

// Inside quotes; JSON has no \x, so bytes that are no UTF-8 become U+FFFD there.
static void put_escaped(struct log_line *line, const char *value, size_t len) {
    bool json = line->format == LOG_FORMAT_JSON;
    for (size_t i = 0, n; i < len && !line->full; i += n) {
        const unsigned char *c = (const unsigned char *)value + i;
        char escaped[8];
        n = utf8_length(c, len - i);
        bool control = *c < 0x20 || *c == 0x7f || (n == 2 && c[0] == 0xc2 && c[1] < 0xa0); // C0, DEL, C1
        if (n == 0) {
            n = 1;
            snprintf(escaped, sizeof escaped, json ? "\\ufffd" : "\\x%02x", *c);
        } else if (*c == '"' || *c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", *c);
        } else if (*c == '\n') {
            snprintf(escaped, sizeof escaped, "\\n");
        } else if (control) {
            snprintf(escaped, sizeof escaped, "\\u%04x", n == 2 ? c[1] : *c);
        } else {
            put(line, value + i, n);
            continue;
        }
        put_text(line, escaped);
    }
}

static void put_quoted(struct log_line *line, const char *value, size_t len) {
    put(line, "\"", 1);
    bool open = !line->full;
    put_escaped(line, value, len);
    if (open) force(line, "\"", 1);
}

static bool is_bare(const char *value, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)value[i]) && (value[i] == '\0' || !strchr("_./:@%+,-*[]()<>#", value[i]))) return false;
    return len > 0;
}

static bool is_json_number(const char *value, size_t len) {
    size_t i = len > 0 && value[0] == '-', start = i;
    while (i < len && isdigit((unsigned char)value[i])) i++;
    if (i == start || (value[start] == '0' && i > start + 1)) return false;
    if (i < len && value[i] == '.')
        for (start = ++i; i < len && isdigit((unsigned char)value[i]);) i++;
    if (i < len && value[i] == 'e') {
        i += i + 1 < len && (value[i + 1] == '-' || value[i + 1] == '+') ? 2 : 1;
        for (start = i; i < len && isdigit((unsigned char)value[i]);) i++;
    }
    return i == len && i > start;
}

void log_line_pair(struct log_line *line, const char *key, size_t key_len, const char *value, size_t len, bool number) {
    bool json = line->format == LOG_FORMAT_JSON;
    if (line->full || line->len + key_len + 8 > sizeof line->data - LOG_LINE_RESERVE) {
        line->full = true;
        return;
    }
    put_text(line, json ? ",\"" : " ");
    put(line, key, key_len);
    put_text(line, json ? "\":" : "=");
    bool bare = json ? number && is_json_number(value, len) : is_bare(value, len);
    if (bare && line->len + len <= sizeof line->data - LOG_LINE_RESERVE)
        put(line, value, len);
    else
        put_quoted(line, value, len);
}

void log_line_begin(struct log_line *line, enum log_format format, const char *time, const char *level, const char *id) {
    line->len = 0;
    line->full = false;
    line->format = format;
    if (format == LOG_FORMAT_JSON) put_text(line, "{\"ts\":\"");
    put_text(line, time);
    put_text(line, format == LOG_FORMAT_JSON ? "\",\"level\":\"" : " ");
    put_text(line, level);
    put_text(line, format == LOG_FORMAT_JSON ? "\",\"id\":\"" : " ");
    put_text(line, id);
    if (format == LOG_FORMAT_JSON) put_text(line, "\"");
}

void log_line_end(struct log_line *line) {
    bool json = line->format == LOG_FORMAT_JSON;
    const char *cut = json ? ",\"truncated\":true" : " truncated=true";
    if (line->full) force(line, cut, strlen(cut));
    if (json) force(line, "}", 1);
    force(line, "\n", 1);
}

// One conversion: "%-8.3lf" taken apart.
struct conversion {
    char spec[32];  // with '*' replaced by the numbers given, without length modifiers
    char length[3]; // "", "hh", "h", "l", "ll", "z", "j", "t"
    char type;
    int precision; // -1: none
};

static void add(struct conversion *c, size_t *n, const char *text) {
    int len = snprintf(c->spec + *n, sizeof c->spec - *n, "%s", text);
    CHECK(len >= 0 && *n + (size_t)len < sizeof c->spec - 4);
    *n += (size_t)len;
}

static const char *read_number(const char *p, va_list *ap, int *value) {
    if (*p == '*') return *value = va_arg(*ap, int), p + 1;
    for (*value = 0; isdigit((unsigned char)*p); p++) *value = *value * 10 + (*p - '0');
    return p;
}

// p is behind the '%'. Returns what is behind the conversion.
static const char *read_conversion(const char *p, va_list *ap, struct conversion *c) {
    size_t n = 0;
    char number[16];
    *c = (struct conversion){.precision = -1};
    add(c, &n, "%");
    for (; *p && strchr("-+#0", *p); p++) add(c, &n, (char[]){*p, 0});
    if (*p == '*' || isdigit((unsigned char)*p)) {
        int width;
        p = read_number(p, ap, &width);
        snprintf(number, sizeof number, "%d", width);
        add(c, &n, number);
    }
    if (*p == '.') {
        p = read_number(p + 1, ap, &c->precision);
        snprintf(number, sizeof number, ".%d", c->precision);
        if (c->precision >= 0) add(c, &n, number);
    }
    for (size_t i = 0; *p && strchr("hlzjt", *p); p++) {
        CHECK(i < sizeof c->length - 1);
        c->length[i++] = *p;
    }
    c->type = *p;
    CHECK(*p && strchr("diuxocfgesp", *p));
    return p + 1;
}

static intmax_t read_signed(const char *length, va_list *ap) {
    if (strcmp(length, "l") == 0) return va_arg(*ap, long);
    if (strcmp(length, "ll") == 0) return va_arg(*ap, long long);
    if (strcmp(length, "z") == 0) return va_arg(*ap, ssize_t);
    if (strcmp(length, "j") == 0) return va_arg(*ap, intmax_t);
    if (strcmp(length, "t") == 0) return va_arg(*ap, ptrdiff_t);
    int value = va_arg(*ap, int);
    return strcmp(length, "hh") == 0 ? (signed char)value : strcmp(length, "h") == 0 ? (short)value : value;
}

static uintmax_t read_unsigned(const char *length, va_list *ap) {
    if (strcmp(length, "l") == 0) return va_arg(*ap, unsigned long);
    if (strcmp(length, "ll") == 0) return va_arg(*ap, unsigned long long);
    if (strcmp(length, "z") == 0) return va_arg(*ap, size_t);
    if (strcmp(length, "j") == 0) return va_arg(*ap, uintmax_t);
    if (strcmp(length, "t") == 0) return (uintmax_t)va_arg(*ap, ptrdiff_t);
    unsigned value = va_arg(*ap, unsigned);
    return strcmp(length, "hh") == 0 ? (unsigned char)value : strcmp(length, "h") == 0 ? (unsigned short)value : value;
}

// Formats one argument into out (size bytes); returns the bytes written, without NUL.
static size_t convert(const struct conversion *c, va_list *ap, char *out, size_t size) {
    char spec[sizeof c->spec + 4];
    int n;
    if (c->type == 's') { // copied by hand: the value may be longer than any width, and not terminated when .* is given
        const char *s = va_arg(*ap, const char *);
        if (s == NULL) s = "(null)";
        size_t len = c->precision >= 0 ? strnlen(s, (size_t)c->precision) : strlen(s);
        if (len > size) len = size;
        memcpy(out, s, len);
        return len;
    }
    if (c->type == 'c') return out[0] = (char)va_arg(*ap, int), 1;
    if (strchr("di", c->type)) {
        snprintf(spec, sizeof spec, "%s%s", c->spec, PRIdMAX);
        n = snprintf(out, size, spec, read_signed(c->length, ap));
    } else if (strchr("fge", c->type)) {
        snprintf(spec, sizeof spec, "%s%c", c->spec, c->type);
        n = snprintf(out, size, spec, va_arg(*ap, double));
    } else if (c->type == 'p') {
        n = snprintf(out, size, "%p", va_arg(*ap, void *));
    } else {
        snprintf(spec, sizeof spec, "%sj%c", c->spec, c->type);
        n = snprintf(out, size, spec, read_unsigned(c->length, ap));
    }
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

// A pair's value, up to the next blank of the format, into out. Returns what follows it in the format.
static const char *read_value(const char *p, va_list *ap, char *out, size_t size, size_t *len, bool *number) {
    const char *start = p;
    struct conversion c = {.type = 0};
    *len = 0;
    while (*p && *p != ' ') {
        if (*p == '%' && p[1] != '%') {
            p = read_conversion(p + 1, ap, &c);
            *number = p[-1] != 's' && (*p == ' ' || *p == '\0') && start[0] == '%' && strchr("diufge", c.type);
            *len += convert(&c, ap, out + *len, size - *len);
            start = ""; // a second conversion makes the value no number
            continue;
        }
        if (*p == '%') p++;
        if (*len < size) out[(*len)++] = *p;
        p++;
    }
    return p;
}

void log_line_pairs(struct log_line *line, const char *format, va_list *ap) {
    char value[LOG_LINE_MAX];
    if (format == NULL) return;
    for (const char *p = format; *p;) {
        while (*p == ' ') p++;
        if (*p == '\0') break;
        size_t key_len = strcspn(p, "= ");
        if (p[key_len] != '=') { // a slip in the format: a line of the log is no reason to die
            log_line_pair(line, "text", 4, p, key_len, false);
            p += key_len;
            continue;
        }
        bool number = false;
        size_t len;
        const char *next = read_value(p + key_len + 1, ap, value, sizeof value, &len, &number);
        log_line_pair(line, p, key_len, value, len, number);
        p = next;
    }
}
