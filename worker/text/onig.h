// Regular expressions in tokenizer.json are written for Oniguruma. This turns one into the same expression for PCRE2 (with
// UTF, UCP and MULTILINE): \s, \h, \w, (?m), nested and intersected classes differ between the two, and what Unicode
// assigned after PCRE2's version has to be added to categories. What can't be said in PCRE2 is refused. Pure.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include <stdbool.h>

// pattern: valid UTF-8. with_new: category escapes also match unicode_new (needed only for texts that hold such code points;
// the expression is slower). Appends to *out; ERR_MODEL_FILES when refused.
err_id onig_translate(const char *pattern, size_t len, bool with_new, struct buf *out, struct error *e);
