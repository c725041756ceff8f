// Properties of code points in Unicode 16, the version that the reference tokenizer library knows. The distribution's PCRE2
// and utf8proc are older (14 and 15): what has been assigned since is in a table here, and regular expressions that name
// categories get it added (onig.h). Pure, any thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A range of code points assigned after Unicode 14.
struct unicode_range {
    uint32_t low, high;
    char category[3]; // "Lu"
    bool han;         // script Han
};
extern const struct unicode_range unicode_new[];
extern const size_t unicode_n_new;

bool unicode_is_new(uint32_t cp);
// Does valid UTF-8 text hold any code point of unicode_new?
bool unicode_has_new(const char *s, size_t n);

// General category as two letters ("Lu", "Cn").
const char *unicode_category(uint32_t cp);
bool unicode_is_numeric(uint32_t cp); // N* of Unicode 17
bool unicode_is_space(uint32_t cp);     // White_Space
bool unicode_is_word(uint32_t cp);      // Alphabetic, M*, Nd, Pc, Join_Control: \w in Rust's regular expressions
bool unicode_is_printable(uint32_t cp); // as Python's str.isprintable
uint32_t unicode_lower(uint32_t cp);    // simple lower case
