// The compiler of JSON schemas, between its two files: schema.c brings sets of schemas into cases, schema_types.c makes a
// case's alternatives. Everything ends in parts.end.
#pragma once
#include "worker/grammar/json_parts.h"
#include <stdio.h>

enum { SCHEMA_SET_MAX = 24, SCHEMA_DEMANDS_MAX = 4000, SCHEMA_CASES_MAX = 4000, SCHEMA_ONE_OF_MAX = 64 };

// That must all hold, in the order of the document: the grammar must be the same on every machine.
struct schema_set {
    const json_t *list[SCHEMA_SET_MAX];
    uint32_t n;
    bool full;
};

struct schema_demand {
    struct schema_set set;
    uint32_t start;
};

struct schema_compiler {
    const json_t *root;
    struct json_parts parts;
    struct schema_demand *demands;
    uint32_t n_demands, n_cases, n_one_of, n_pairs;
    const json_t *one_of[SCHEMA_ONE_OF_MAX];
    struct error *e;
};

err_id schema_compile(const json_t *root, struct network *net, struct error *e);
void schema_set_add(struct schema_set *s, const json_t *schema);
// Where a value for which all of the set hold starts: a node that may be called before it is made.
uint32_t schema_demand(struct schema_compiler *c, const struct schema_set *set);
// The alternatives of schemas without anything left to split, from node `from`.
err_id schema_case(struct schema_compiler *c, const struct schema_set *set, uint32_t from);
