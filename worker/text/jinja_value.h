// Values of the template language: Python's, as far as templates see them. They live in the arena of one run and are never
// freed alone; lists and dicts are built once and then only read, but for namespaces. A jvalue is passed by value.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum jtype {
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_GENERATOR, // what filters like map give: items can be taken once, has no length
    J_DICT,
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_METHOD,   // a method bound to its object
    J_FUNCTION, // a function of the environment
};

struct jvalue {
    uint8_t type;    // enum jtype
    uint8_t lacking; // UNDEFINED: 1 + the type of the object that has no such attribute; 0: a variable
    uint32_t len;    // STRING, UNDEFINED (its name): bytes
    union {
        bool b;
        int64_t i;
        double f;
        const char *s; // UTF-8; not zero-terminated
        struct jlist *list;
        struct jdict *dict; // DICT, NAMESPACE
        struct jloop *loop;
        struct jmacro *macro;
        struct jmethod *method;
        const struct jfunction *function;
    };
};

struct jlist {
    struct jvalue *items;
    uint32_t len, cap;
    const char *broken; // GENERATOR over something that can't be iterated: its type; taking the items fails
};

struct jentry {
    struct jvalue key, value;
};
struct jdict {
    struct jentry *entries; // in order of insertion
    uint32_t len, cap;
};

struct jmethod {
    struct jvalue object;
    const struct jmethod_kind *kind;
};

struct jrun;

// ---- the run's memory and budget (TEMPLATE_*_MAX) ----

void *jrun_alloc(struct jrun *r, size_t n);
// Counts n steps; fails when the run's budget of steps or memory is used up. Call it before work that a template can
// multiply.
err_id jrun_charge(struct jrun *r, size_t n);
// The error of a template at the line being run; format has no line.
err_id jrun_fail(struct jrun *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

// ---- making values ----

static inline struct jvalue jv_none(void) { return (struct jvalue){.type = J_NONE}; }
static inline struct jvalue jv_bool(bool b) { return (struct jvalue){.type = J_BOOL, .b = b}; }
static inline struct jvalue jv_int(int64_t i) { return (struct jvalue){.type = J_INT, .i = i}; }
static inline struct jvalue jv_float(double f) { return (struct jvalue){.type = J_FLOAT, .f = f}; }
// Borrows the bytes, which must live as long as the run.
static inline struct jvalue jv_string(const char *s, size_t len) {
    return (struct jvalue){.type = J_STRING, .len = (uint32_t)len, .s = s};
}
static inline struct jvalue jv_undefined(const char *name, size_t len) {
    return (struct jvalue){.type = J_UNDEFINED, .len = (uint32_t)len, .s = name};
}
struct jvalue jv_copy_string(struct jrun *r, const char *s, size_t len);
struct jvalue jv_take_buf(struct jrun *r, struct buf *b); // copies and frees the buf
struct jvalue jv_list(struct jrun *r, enum jtype type);   // LIST, TUPLE or GENERATOR
void jv_push(struct jrun *r, struct jvalue list, struct jvalue item);
struct jvalue jv_dict(struct jrun *r, enum jtype type);
void jv_put(struct jrun *r, struct jdict *d, struct jvalue key, struct jvalue value); // replaces
err_id jv_from_json(struct jrun *r, const json_t *json, struct jvalue *out);

// ---- asking values ----

const char *jv_type_name(const struct jvalue *v); // Python's: "str", "dict", …
bool jv_truth(struct jvalue v);
bool jv_equal(struct jvalue a, struct jvalue b);
// Order of a and b as Python's <: *cmp < 0, 0, > 0. Fails when they can't be ordered.
err_id jv_compare(struct jrun *r, struct jvalue a, struct jvalue b, int *cmp);
const struct jvalue *jv_find(const struct jdict *d, struct jvalue key); // NULL: none
bool jv_is_number(struct jvalue v);                                     // with booleans, as in Python
double jv_number(struct jvalue v);
static inline bool jv_is_list(struct jvalue v) { return v.type == J_LIST || v.type == J_TUPLE || v.type == J_GENERATOR; }
static inline bool jv_is_integer(struct jvalue v) { return v.type == J_INT || v.type == J_BOOL; }
static inline int64_t jv_integer(struct jvalue v) { return v.type == J_BOOL ? v.b : v.i; }

// The items that a for loop would see, as a list (not a copy when it is one). A generator's are taken.
err_id jv_iterate(struct jrun *r, struct jvalue v, struct jlist *out);
// len(v)
err_id jv_length(struct jrun *r, struct jvalue v, int64_t *n);

// ---- as text ----

err_id jv_print(struct jrun *r, struct jvalue v, struct buf *out); // str(v)
err_id jv_repr(struct jrun *r, struct jvalue v, struct buf *out);
void jv_float_repr(double f, struct buf *out); // as Python's repr
struct jvalue jv_to_string(struct jrun *r, struct jvalue v, err_id *id);

struct json_style {     // of json.dumps
    const char *indent; // NULL: one line
    size_t indent_len;
    const char *item_separator, *key_separator;
    bool sort_keys, ensure_ascii;
};
err_id jv_tojson(struct jrun *r, struct jvalue v, const struct json_style *style, struct buf *out);
