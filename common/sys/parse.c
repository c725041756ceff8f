// Numbers with units are an integer, an optional fraction and a unit; they are read exactly, in integers, so that "1.5s" is
// 1500 ms and "0.1ms" is refused rather than rounded.
#include "common/sys/parse.h"

#include "common/base/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}};
static const struct unit sizes[] = {{"", 1},
                                    {"B", 1},
                                    {"KB", UINT64_C(1) << 10},
                                    {"MB", UINT64_C(1) << 20},
                                    {"GB", UINT64_C(1) << 30},
                                    {"TB", UINT64_C(1) << 40}};
static const struct unit counts[] = {{"", 1}, {"k", 1000}, {"M", 1000 * 1000}, {"G", UINT64_C(1000) * 1000 * 1000}};

// Reads decimal digits at *p into *value and moves *p behind them. False: none, or too many for 64 bits.
static bool read_digits(const char **p, uint64_t *value) {
    const char *start = *p;
    for (*value = 0; **p >= '0' && **p <= '9'; ++*p)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, (uint64_t)(**p - '0'), value))
            return false;
    return *p != start;
}

bool parse_u64(const char *text, uint64_t *out) {
    uint64_t value;
    if (!read_digits(&text, &value) || *text != '\0') return false;
    *out = value;
    return true;
}

// value × factor + fraction × factor / 10^digits, refusing what is no whole number.
static bool scale(uint64_t whole, uint64_t fraction, uint64_t divisor, uint64_t factor, uint64_t *out) {
    uint64_t part;
    if (__builtin_mul_overflow(whole, factor, &whole) || __builtin_mul_overflow(fraction, factor, &part)) return false;
    return part % divisor == 0 && !__builtin_add_overflow(whole, part / divisor, out);
}

static bool parse_scaled(const char *text, const struct unit *units, size_t n, uint64_t *out) {
    uint64_t whole, fraction = 0, divisor = 1;
    if (!read_digits(&text, &whole)) return false;
    if (*text == '.') {
        const char *start = ++text;
        if (!read_digits(&text, &fraction) || text - start > 9) return false;
        for (; start < text; start++) divisor *= 10;
    }
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(text, units[i].name) == 0) return scale(whole, fraction, divisor, units[i].factor, out);
    return false;
}

bool parse_duration(const char *text, uint64_t *ms) {
    if (strcmp(text, "0") == 0) return *ms = 0, true;
    return parse_scaled(text, durations, ARRAY_LEN(durations), ms);
}

bool parse_size(const char *text, uint64_t *bytes) { return parse_scaled(text, sizes, ARRAY_LEN(sizes), bytes); }
bool parse_count(const char *text, uint64_t *count) { return parse_scaled(text, counts, ARRAY_LEN(counts), count); }

bool parse_percent(const char *text, uint32_t *value) {
    char digits[16];
    size_t len = strlen(text);
    uint64_t number;
    if (len > 0 && text[len - 1] == '%') len--;
    if (len >= sizeof digits) return false;
    memcpy(digits, text, len);
    digits[len] = '\0';
    if (!parse_u64(digits, &number) || number > UINT32_MAX) return false;
    *value = (uint32_t)number;
    return true;
}

bool parse_bool(const char *text, bool *out) {
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0) return *out = true, true;
        if (strcmp(text, no[i]) == 0) return *out = false, true;
    }
    return false;
}

// The largest unit that divides the value.
static const char *format_scaled(uint64_t value, const struct unit *units, size_t n, char out[PARSE_TEXT]) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (value >= units[i].factor && value % units[i].factor == 0) best = i;
    snprintf(out, PARSE_TEXT, "%" PRIu64 "%s", value / units[best].factor, units[best].name);
    return out;
}

const char *format_duration(uint64_t ms, char out[PARSE_TEXT]) {
    return format_scaled(ms, durations, ARRAY_LEN(durations), out);
}
const char *format_size(uint64_t bytes, char out[PARSE_TEXT]) { return format_scaled(bytes, sizes, ARRAY_LEN(sizes), out); }
const char *format_count(uint64_t count, char out[PARSE_TEXT]) {
    return format_scaled(count, counts, ARRAY_LEN(counts), out);
}
