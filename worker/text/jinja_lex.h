// Cuts a template into tokens, with jinja2's rules for white space around tags under trim_blocks and lstrip_blocks.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include <stdbool.h>
#include <stdint.h>

enum jtoken_kind {
    TOK_DATA,  // text outside tags
    TOK_PRINT, // {{
    TOK_PRINT_END,
    TOK_BLOCK, // {%
    TOK_BLOCK_END,
    TOK_NAME,
    TOK_INT,
    TOK_FLOAT,
    TOK_STRING,   // with escapes resolved
    TOK_OPERATOR, // text is one of + - / // * % ** ~ [ ] ( ) { } == != > >= < <= = . : | ,
    TOK_END,
};

struct jtoken {
    enum jtoken_kind kind;
    int line;
    const char *text; // DATA, NAME, STRING, OPERATOR: bytes of jlexed.text
    uint32_t len;
    int64_t i; // INT
    double f;  // FLOAT
};

struct jlexed {
    struct jtoken *tokens; // ends with TOK_END; owned
    uint32_t n, cap;
    struct buf source;  // with newlines made \n
    struct buf strings; // resolved string literals
};

err_id jinja_lex(const char *source, size_t len, struct jlexed *out, struct error *e); // the caller frees, also on failure
void jlexed_free(struct jlexed *l);
