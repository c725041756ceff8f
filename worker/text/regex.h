// One compiled regular expression of a tokenizer, searched repeatedly through a text. Written for Oniguruma, run by PCRE2's
// JIT. A regex is immutable and shared between threads; a regex_scratch belongs to one call.
#pragma once
#include "common/base/error.h"
#include <stdbool.h>
#include <stddef.h>

struct regex;
struct regex_scratch;

// literal: the pattern is plain text.
err_id regex_create(const char *pattern, size_t len, bool literal, struct regex **out, struct error *e);
void regex_destroy(struct regex *r); // NULL is fine

struct regex_scratch *regex_scratch_create(void);
void regex_scratch_destroy(struct regex_scratch *s); // NULL is fine

// Iterates over the matches in s[0..n): zero-initialise, set text, then call regex_next until it finds none.
struct regex_search {
    const char *text;
    size_t len;
    bool has_new; // unicode_has_new(text)
    size_t at, last_end;
    bool matched;
    size_t start, end; // the match found
};
// Puts the next match into start, end. An empty match right behind the last one doesn't count. *found says whether there
// was one. Fails only when the expression needs more than the match limit on this text.
err_id regex_next(const struct regex *r, struct regex_scratch *scratch, struct regex_search *search, bool *found,
                  struct error *e);
