// The syntax tree of a regular expression (automaton.h says which).
#pragma once
#include "common/base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ast_kind { AST_EMPTY, AST_SET, AST_CONCAT, AST_ALTERNATE, AST_REPEAT, AST_BEGIN, AST_END };
enum { AST_UNBOUNDED = UINT32_MAX, REGEX_BYTES_MAX = 64 << 10, REGEX_DEPTH_MAX = 200, REGEX_COUNT_MAX = 10000 };

struct code_range {
    uint32_t lo, hi;
};

struct ast {
    enum ast_kind kind;
    struct code_range *ranges; // SET: ascending, apart
    uint32_t n_ranges;
    struct ast *left, *right; // REPEAT: left
    uint32_t min, max;
};

// ERR_INVALID_ARGUMENT says what is wrong, or what isn't supported, and where.
err_id regex_parse(const char *pattern, size_t len, struct ast **out, struct error *e);
void ast_free(struct ast *a); // NULL is fine
