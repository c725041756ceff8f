// The syntax tree of a template. Nodes live in the template's own arena and are never changed after parsing.
#pragma once
#include "common/base/error.h"
#include "worker/text/jinja_value.h"

enum jnode_kind {
    // statements
    NODE_OUTPUT,       // a: expression
    NODE_DATA,         // text
    NODE_FOR,          // target: a; iterable: b; condition: c or NULL; body, other; recursive: flag
    NODE_IF,           // a: condition; body; other: else branch (an elif is an IF in it)
    NODE_SET,          // a: target; b: value
    NODE_SET_BLOCK,    // a: target; b: filters over NODE_CAPTURED or NULL; body
    NODE_FILTER_BLOCK, // b: filters over NODE_CAPTURED; body
    NODE_MACRO,        // name; list: parameters (NODE_PARAMETER); body
    NODE_CALL_BLOCK,   // b: the call; list: parameters; body
    NODE_WITH,         // list: NODE_SET; body
    NODE_SCOPE,        // body: {% generation %}
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_PARAMETER, // name; a: default or NULL
    // targets of assignments
    NODE_TARGET_NAME,      // name
    NODE_TARGET_TUPLE,     // list
    NODE_TARGET_ATTRIBUTE, // name . text
    // expressions
    NODE_CONST,     // value
    NODE_NAME,      // name
    NODE_LIST,      // list
    NODE_TUPLE,     // list
    NODE_DICT,      // list of NODE_PAIR
    NODE_PAIR,      // a: key; b: value
    NODE_NOT,       // a
    NODE_NEGATIVE,  // a
    NODE_POSITIVE,  // a
    NODE_BINARY,    // a op b
    NODE_AND,       // a, b
    NODE_OR,        // a, b
    NODE_CONCAT,    // list
    NODE_COMPARE,   // a; list of NODE_OPERAND
    NODE_OPERAND,   // op; a
    NODE_CONDITION, // a if b else c (or NULL)
    NODE_ATTRIBUTE, // a . text
    NODE_ITEM,      // a [ b ]
    NODE_SLICE,     // a : b : c, each or NULL
    NODE_CALL,      // a ( list )
    NODE_FILTER,    // a | filter ( list )
    NODE_TEST,      // a is test ( list )
    NODE_ARGUMENT,  // a; text: its name, or NULL; op: 1 for *a, 2 for **a
    NODE_CAPTURED,  // the text of the block around it
};

enum jop {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOOR_DIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

enum { JINJA_NODE_DEPTH_MAX = 1000 }; // "a + b + c" is two deep

struct jnode {
    enum jnode_kind kind;
    int line;
    int op;
    bool flag;
    const char *name; // interned
    const char *text; // zero-terminated; DATA may hold zero bytes
    uint32_t text_len;
    struct jnode *a, *b, *c;
    struct jnode *list;         // first of a chain by next
    struct jnode *body, *other; // chains of statements
    struct jnode *next;
    struct jvalue value;
    const struct jfilter *filter;
    const struct jtest *test;
};

struct chat_template {
    struct jchunk *chunks; // the arena
    struct jnode *body;
    const char **names; // interned names
    uint32_t n_names, cap_names;
    bool wants_parts, wants_objects;
};

// Arena of a template; also used by runs.
void *jchunk_alloc(struct jchunk **chunks, size_t n, size_t *total);
void jchunk_free(struct jchunk *chunks);

// Parses source into t->body. t is empty; the caller destroys it also after a failure.
err_id jinja_parse(struct chat_template *t, const char *source, size_t len, struct error *e);
// The one address of this name; NULL when create is false and the template doesn't have it.
const char *jinja_intern(struct chat_template *t, const char *name, size_t len);
const char *jinja_find_name(const struct chat_template *t, const char *name, size_t len);
