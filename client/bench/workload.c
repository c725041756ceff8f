#include "client/bench/workload.h"

#include "common/base/check.h"
#include "common/base/philox.h"

#include <math.h>
#include <stdlib.h>

static const char *const words[] = {
    "time",   "year",    "people", "way",     "day",      "man",     "thing",      "woman",  "life",  "child", "world",
    "school", "state",   "family", "student", "group",    "country", "problem",    "hand",   "part",  "place", "case",
    "week",   "company", "system", "program", "question", "work",    "government", "number", "night", "point", "home",
    "water",  "room",    "mother", "area",    "money",    "story",   "fact",       "month",  "lot",   "right", "study",
    "book",   "eye",     "job",    "word",    "business", "issue",   "side",       "kind",   "head",  "house", "service",
    "friend", "father",  "power",  "hour",    "game",     "line",    "end",        "member", "law",
};
_Static_assert(sizeof words / sizeof *words == 64, "six bits choose one");

// Which uses of the generator there are.
enum { DRAW_GAP = 1, DRAW_LENGTH, DRAW_OWN_WORDS, DRAW_PREFIX_WORDS, DRAW_BLOCK_WORDS };

static uint32_t draw(const struct workload *w, uint32_t use, uint64_t which, uint32_t i) {
    struct philox counter = {{(uint32_t)which, (uint32_t)(which >> 32), i / 4, use}};
    return philox4x32(counter, w->options.seed).v[i % 4];
}

void workload_init(struct workload *w, const struct workload_options *options) {
    *w = (struct workload){.options = *options};
    if (w->options.speed <= 0) w->options.speed = 1;
}

static uint32_t between(struct workload_range r, uint32_t random) {
    return r.low + (uint32_t)((uint64_t)random * (r.high - r.low + 1ull) >> 32);
}

static void append_words(const struct workload *w, uint32_t use, uint64_t which, uint32_t n, struct buf *out) {
    for (uint32_t i = 0; i < n; i++) {
        if (out->len > 0) buf_char(out, ' ');
        buf_str(out, words[draw(w, use, which, i) % ARRAY_LEN(words)]);
    }
}

// Blocks that other requests may begin with as well; then words of its own.
static void append_trace_prompt(const struct workload *w, const struct trace_request *r, struct buf *out) {
    uint32_t left = r->prompt_tokens;
    for (uint32_t i = 0; i < r->n_blocks && left > 0; i++) {
        uint32_t n = left < TRACE_BLOCK_TOKENS ? left : TRACE_BLOCK_TOKENS;
        append_words(w, DRAW_BLOCK_WORDS, w->options.trace->blocks[r->first_block + i], n, out);
        left -= n;
    }
    append_words(w, DRAW_OWN_WORDS, w->next, left, out);
}

static bool next_of_trace(struct workload *w, struct workload_request *out, struct buf *prompt) {
    const struct trace *t = w->options.trace;
    if (w->next >= t->n) return false;
    const struct trace_request *r = &t->requests[w->next];
    *out = (struct workload_request){r->at_s / w->options.speed, r->prompt_tokens, r->output_tokens};
    append_trace_prompt(w, r, prompt);
    return true;
}

bool workload_next(struct workload *w, struct workload_request *out, struct buf *prompt) {
    const struct workload_options *o = &w->options;
    if (o->trace) {
        if (!next_of_trace(w, out, prompt)) return false;
    } else {
        uint32_t n = between(o->prompt_tokens, draw(w, DRAW_LENGTH, w->next, 0));
        uint32_t shared = o->prefixes == 0 ? 0 : o->prefix_tokens < n ? o->prefix_tokens : n;
        *out = (struct workload_request){w->at_s, n, between(o->output_tokens, draw(w, DRAW_LENGTH, w->next, 1))};
        if (shared) append_words(w, DRAW_PREFIX_WORDS, draw(w, DRAW_LENGTH, w->next, 2) % o->prefixes, shared, prompt);
        append_words(w, DRAW_OWN_WORDS, w->next, n - shared, prompt);
        if (o->rate > 0) w->at_s -= log1p(-(double)draw(w, DRAW_GAP, w->next, 0) * 0x1p-32) / o->rate;
    }
    w->next++;
    return true;
}

bool workload_range_parse(const char *text, struct workload_range *out) {
    char *end;
    unsigned long low = strtoul(text, &end, 10), high = low;
    if (end == text || text[0] < '0' || text[0] > '9') return false;
    if (*end == '-') {
        const char *second = end + 1;
        if (*second < '0' || *second > '9') return false;
        high = strtoul(second, &end, 10);
    }
    *out = (struct workload_range){(uint32_t)low, (uint32_t)high};
    return *end == '\0' && low >= 1 && low <= high && high <= TRACE_TOKENS_MAX;
}
