// Strings, numbers, literals, white space and any JSON value.
#include "worker/grammar/json_parts.h"
#include "common/base/check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_regex(struct json_parts *p, uint32_t from, const char *regex, bool json, uint32_t to) {
    struct automaton *a;
    CHECK(automaton_regex(regex, strlen(regex), false, &a, NULL) == ERR_NONE);
    automaton_emit(a, json, p->net, from, to);
    automaton_free(a);
}

// ---- strings ----

#define PLAIN "[^\\x00-\\x1f\"\\\\]"
#define ESCAPE                                                                                                              \
    "\\\\([\"\\\\/bfnrt]|u([0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}|"                                        \
    "[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}))"

static void make_strings(struct json_parts *p) {
    struct network *net = p->net;
    uint32_t open = network_node(net), close = network_node(net), escaped = network_node(net);
    network_text(net, p->string, "\"", 1, open);
    add_regex(p, open, "(" PLAIN "|" ESCAPE ")*", false, close);
    network_text(net, close, "\"", 1, p->end);
    uint32_t start = net->n_nodes; // of the automaton
    add_regex(p, p->character, PLAIN, false, p->end);
    if (!net->over) net->nodes[start].free = FREE_COUNTED;
    network_jump(net, p->character, escaped);
    add_regex(p, escaped, ESCAPE, false, p->end);
}

static void add_text(struct json_parts *p, uint32_t from, const char *s, size_t len, uint32_t to) {
    json_t *value = json_stringn_nocheck(s, len);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    json_decref(value);
    network_text(p->net, from, text, strlen(text), to);
    free(text);
}

// ---- numbers ----

static void digits_between(struct network *net, uint32_t from, const char *lo, const char *hi, uint32_t to) {
    uint32_t len = (uint32_t)strlen(lo);
    uint32_t both = from, on_lo = NET_NONE, on_hi = NET_NONE, none = NET_NONE;
    // on both bounds so far, on one, on none
    for (uint32_t i = 0; i < len; i++) {
        bool last = i + 1 == len;
        uint32_t n_both = last ? to : network_node(net), n_lo = last ? to : network_node(net);
        uint32_t n_hi = last ? to : network_node(net), n_none = last ? to : network_node(net);
        uint8_t l = (uint8_t)lo[i], h = (uint8_t)hi[i];
        if (both != NET_NONE && l == h) network_byte(net, both, l, l, n_both);
        if (both != NET_NONE && l < h) network_byte(net, both, l, l, n_lo), network_byte(net, both, h, h, n_hi);
        if (both != NET_NONE && l + 1 < h) network_byte(net, both, l + 1, h - 1, n_none);
        if (on_lo != NET_NONE) network_byte(net, on_lo, l, l, n_lo);
        if (on_lo != NET_NONE && l < '9') network_byte(net, on_lo, l + 1, '9', n_none);
        if (on_hi != NET_NONE) network_byte(net, on_hi, h, h, n_hi);
        if (on_hi != NET_NONE && h > '0') network_byte(net, on_hi, '0', h - 1, n_none);
        if (none != NET_NONE) network_byte(net, none, '0', '9', n_none);
        both = n_both, on_lo = n_lo, on_hi = n_hi, none = n_none;
    }
}

// lo <= hi, both at least 0.
static void sizes_between(struct network *net, uint32_t from, uint64_t lo, uint64_t hi, uint32_t to) {
    uint64_t first = 0, last = 9;
    for (int len = 1; len <= 19 && first <= hi; len++) {
        char a[32], b[32];
        uint64_t x = lo > first ? lo : first, y = hi < last ? hi : last;
        if (x <= y) {
            snprintf(a, sizeof a, "%llu", (unsigned long long)x);
            snprintf(b, sizeof b, "%llu", (unsigned long long)y);
            digits_between(net, from, a, b, to);
        }
        first = last + 1;
        last = last * 10 + 9;
    }
}

void json_integers(struct json_parts *p, uint32_t from, int64_t min, int64_t max, uint32_t to) {
    struct network *net = p->net;
    if (min < 0 && min <= max) {
        uint32_t minus = network_node(net);
        network_byte(net, from, '-', '-', minus);
        sizes_between(net, minus, max < 0 ? (uint64_t)-max : 1, (uint64_t)-min, to);
    }
    if (max >= 0 && min <= max) sizes_between(net, from, min > 0 ? (uint64_t)min : 0, (uint64_t)max, to);
}

static void make_numbers(struct json_parts *p) {
    add_regex(p, p->number, "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", false, p->end);
}

// ---- values ----

void json_spaced(struct json_parts *p, uint32_t from, const char *text, uint32_t to) {
    uint32_t behind = network_node(p->net);
    network_text(p->net, from, text, strlen(text), behind);
    network_call(p->net, behind, p->space, to);
}

void json_closed(struct json_parts *p, uint32_t from, const char *text, uint32_t to) {
    uint32_t before = network_node(p->net);
    network_call(p->net, from, p->space, before);
    network_text(p->net, before, text, strlen(text), to);
}

void json_key(struct json_parts *p, uint32_t from, const char *name, uint32_t to) {
    uint32_t quoted = network_node(p->net);
    add_text(p, from, name, strlen(name), quoted);
    json_colon(p, quoted, to);
}

void json_colon(struct json_parts *p, uint32_t from, uint32_t to) {
    uint32_t colon = network_node(p->net);
    network_text(p->net, from, ":", 1, colon);
    network_text(p->net, colon, " ", 1, to);
    network_jump(p->net, colon, to);
}

static void add_object(struct json_parts *p, uint32_t from, const json_t *value, uint32_t to) {
    const char *name;
    json_t *member;
    uint32_t at = network_node(p->net);
    const char *before = "{";
    json_object_foreach((json_t *)value, name, member) {
        uint32_t key = network_node(p->net), colon = network_node(p->net);
        json_spaced(p, before[0] == '{' ? from : at, before, key);
        json_key(p, key, name, colon);
        at = network_node(p->net);
        json_literal(p, colon, member, at);
        before = ",";
    }
    if (before[0] == '{') json_spaced(p, from, before, at);
    json_closed(p, at, "}", to);
}

static void add_array(struct json_parts *p, uint32_t from, const json_t *value, uint32_t to) {
    uint32_t at = from;
    for (size_t i = 0; i < json_array_size(value); i++) {
        uint32_t item = network_node(p->net), next = network_node(p->net);
        json_spaced(p, at, i == 0 ? "[" : ",", item);
        json_literal(p, item, json_array_get(value, i), next);
        at = next;
    }
    if (at == from) json_spaced(p, from, "[", at = network_node(p->net));
    json_closed(p, at, "]", to);
}

void json_literal(struct json_parts *p, uint32_t from, const json_t *value, uint32_t to) {
    if (json_is_object(value)) return add_object(p, from, value, to);
    if (json_is_array(value)) return add_array(p, from, value, to);
    double d = json_is_real(value) ? json_real_value(value) : 0.5;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (fabs(d) < 1e15 && d == (double)(int64_t)d) snprintf(text, strlen(text) + 1, "%lld", (long long)d);
    network_text(p->net, from, text, strlen(text), to);
    free(text);
}

// Members between brackets, apart by commas: one is the start of a member, min to max of them.
void json_members(struct json_parts *p, uint32_t from, const char *brackets, uint32_t one, uint32_t to) {
    struct network *net = p->net;
    uint32_t open = network_node(net), more = network_node(net), rest = network_node(net), last = network_node(net);
    char left[2] = {brackets[0]}, right[2] = {brackets[1]};
    json_spaced(p, from, left, open);
    network_text(net, open, right, 1, to);
    network_call(net, open, one, last);
    json_spaced(p, more, ",", one);
    network_repeat(net, last, more, 0, NET_UNBOUNDED, rest);
    json_closed(p, rest, right, to);
}

static void make_any(struct json_parts *p) {
    static const char *const WORDS[] = {"true", "false", "null"};
    struct network *net = p->net;
    uint32_t member = network_node(net), quoted = network_node(net);
    network_call(net, member, p->string, quoted);
    json_colon(p, quoted, p->any);
    json_members(p, p->object, "{}", member, p->end);
    json_members(p, p->any, "[]", p->any, p->end);
    network_jump(net, p->any, p->object);
    network_jump(net, p->any, p->string);
    network_jump(net, p->any, p->number);
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++) network_text(net, p->any, WORDS[i], strlen(WORDS[i]), p->end);
}

void json_parts_init(struct json_parts *p, struct network *net) {
    *p = (struct json_parts){.net = net, .end = network_final(net), .space = network_node(net)};
    p->any = network_node(net);
    p->string = network_node(net);
    p->number = network_node(net);
    p->character = network_node(net);
    p->object = network_node(net);
    add_regex(p, p->space, "( |\\n {0,32})?", false, p->end);
    make_strings(p);
    make_numbers(p);
    make_any(p);
}
