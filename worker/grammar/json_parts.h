// The parts that JSON texts are made of, as pieces of a network: each is made once and called. How JSON may be written is
// said in grammar.h.
#pragma once
#include "worker/grammar/automaton.h"
#include "worker/grammar/network.h"
#include <jansson.h>

struct json_parts {
    struct network *net;
    uint32_t end; // the final node that every part ends in
    uint32_t space, any, string, number, object;
    uint32_t character; // one of a string
};

#define JSON_INTEGER_MAX INT64_C(999999999999999999)

void json_parts_init(struct json_parts *p, struct network *net);
void json_literal(struct json_parts *p, uint32_t from, const json_t *value, uint32_t to);
// Whole numbers; the bounds are within ±JSON_INTEGER_MAX.
void json_integers(struct json_parts *p, uint32_t from, int64_t min, int64_t max, uint32_t to);
void json_key(struct json_parts *p, uint32_t from, const char *name, uint32_t to); // with its colon
void json_colon(struct json_parts *p, uint32_t from, uint32_t to);
void json_spaced(struct json_parts *p, uint32_t from, const char *text, uint32_t to); // text, then white space
void json_closed(struct json_parts *p, uint32_t from, const char *text, uint32_t to); // white space, then text
// Any number of members apart by commas, between two brackets. one: where a member starts, which ends in p->end.
void json_members(struct json_parts *p, uint32_t from, const char *brackets, uint32_t one, uint32_t to);
