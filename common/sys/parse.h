// Numbers as people write them, shared by the configuration file and the flags: durations, sizes, counts, shares. Each
// returns false when the text is not exactly such a number or does not fit; nothing is clamped and nothing else is accepted
// (no sign, no blanks).
#pragma once
#include <stdbool.h>
#include <stdint.h>

bool parse_u64(const char *text, uint64_t *out);       // "42"
bool parse_duration(const char *text, uint64_t *ms);   // "300ms" "2s" "1.5s" "10m" "1h"; "0" needs no unit
bool parse_size(const char *text, uint64_t *bytes);    // "8MB" "64KB" "512B" "1.5GB" "4096": powers of 1024
bool parse_count(const char *text, uint64_t *count);   // "4M" "64k" "1.5M" "4096": powers of 1000
bool parse_percent(const char *text, uint32_t *value); // "40" or "40%": a whole number; the sign is allowed and ignored
bool parse_bool(const char *text, bool *out);          // true false yes no on off

// The shortest text that reads back as the same value.
enum { PARSE_TEXT = 32 };
const char *format_duration(uint64_t ms, char out[PARSE_TEXT]);
const char *format_size(uint64_t bytes, char out[PARSE_TEXT]);
const char *format_count(uint64_t count, char out[PARSE_TEXT]);
