// Deterministic automata over code points: what patterns, formats, lengths and the names of properties are made of before
// they become bytes. Complete (every state has an edge for every code point), so that they can be intersected and negated.
#pragma once
#include "common/base/error.h"
#include "worker/grammar/network.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct automaton {
    uint32_t n_states, n_ranges; // state 0 is the start
    uint32_t *range_lo;          // [n_ranges] ascending, the first is 0: range i ends where i + 1 begins
    uint32_t *to;                // [n_states][n_ranges]
    bool *accept;                // [n_states]
};

enum { AUTOMATON_STATES_MAX = 20000, AUTOMATON_CELLS_MAX = 4 << 20 };

void automaton_free(struct automaton *a); // NULL is fine
// A regular expression of ECMA 262 (without look-around, back references, \b and \p, which are refused by name). search: it
// may match anywhere (as JSON Schema's "pattern" says); else the whole text.
err_id automaton_regex(const char *pattern, size_t len, bool search, struct automaton **out, struct error *e);
// In place.
void automaton_negate(struct automaton *a);
// Texts of both.
err_id automaton_intersect(const struct automaton *a, const struct automaton *b, struct automaton **out, struct error *e);
bool automaton_matches(const struct automaton *a, const char *text, size_t len); // invalid UTF-8 never does
bool automaton_empty(const struct automaton *a);                                 // nothing matches

// Adds the automaton to a network, from node `from` to node `to`: as UTF-8, or as the inside of a JSON string, where what
// needs an escape is written with its shortest one.
void automaton_emit(const struct automaton *a, bool json, struct network *net, uint32_t from, uint32_t to);
