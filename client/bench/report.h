// What a load came to, for people (a table), programs (JSON) and both (one HTML file with its plots inside).
#pragma once
#include "client/bench/load.h"

struct report_about {
    const char *target; // where the load went, and which model
    const char *shape;  // one line: "open loop, 20 requests/s, prompts of 128 words, 64 tokens each"
    const struct load_objective *objective;
};

void report_table(struct buf *out, struct load_result *r, const struct report_about *about);
void report_json(struct buf *out, struct load_result *r, const struct report_about *about);
void report_html(struct buf *out, struct load_result *r, const struct report_about *about);
