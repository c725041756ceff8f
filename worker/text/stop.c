#include "worker/text/stop.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

struct pattern {
    char bytes[STOP_STRING_BYTES_MAX];
    uint16_t fall_back[STOP_STRING_BYTES_MAX]; // length of the longest border of the first i + 1 bytes
    uint16_t len;
    uint16_t matched; // bytes of it that the text so far ends with
};

struct stop {
    struct buf held; // the text's end that could be the beginning of a stop string
    bool include, done;
    uint32_t n;
    struct pattern patterns[];
};

static void prepare(struct pattern *p, const char *s, size_t len) {
    memcpy(p->bytes, s, len);
    p->len = (uint16_t)len;
    p->fall_back[0] = 0;
    for (size_t i = 1; i < len; i++) {
        uint16_t k = p->fall_back[i - 1];
        while (k > 0 && p->bytes[k] != p->bytes[i]) k = p->fall_back[k - 1];
        p->fall_back[i] = (uint16_t)(k + (p->bytes[k] == p->bytes[i]));
    }
}

err_id stop_create(const char *const *strings, uint32_t n, bool include, struct stop **out, struct error *e) {
    if (n > STOP_STRINGS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "stop", "%u stop strings were given, at most %d are allowed", n,
                               STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        size_t len = strlen(strings[i]);
        if (len == 0 || len > STOP_STRING_BYTES_MAX)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "stop", "stop string %u has %zu bytes, 1 to %d are allowed", i,
                                   len, STOP_STRING_BYTES_MAX);
    }
    struct stop *s = xcalloc(1, sizeof *s + n * sizeof s->patterns[0]);
    s->include = include;
    s->n = n;
    for (uint32_t i = 0; i < n; i++) prepare(&s->patterns[i], strings[i], strlen(strings[i]));
    *out = s;
    return ERR_NONE;
}

void stop_destroy(struct stop *s) {
    if (s == NULL) return;
    buf_free(&s->held);
    free(s);
}

// Takes one byte; the length of the longest stop string that ends with it, or 0.
static size_t step(struct stop *s, char byte) {
    size_t longest = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        struct pattern *p = &s->patterns[i];
        while (p->matched > 0 && p->bytes[p->matched] != byte) p->matched = p->fall_back[p->matched - 1];
        if (p->bytes[p->matched] == byte) p->matched++;
        if (p->matched == p->len && p->len > longest) longest = p->len;
    }
    return longest;
}

static size_t longest_beginning(const struct stop *s) {
    size_t longest = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->patterns[i].matched > longest) longest = s->patterns[i].matched;
    }
    return longest;
}

bool stop_push(struct stop *s, const char *text, size_t len, struct buf *out) {
    if (s->done) return false;
    for (size_t i = 0; i < len; i++) {
        size_t found = step(s, text[i]);
        buf_char(&s->held, text[i]);
        if (found == 0) continue;
        buf_append(out, s->held.data, s->held.len - (s->include ? 0 : found));
        buf_reset(&s->held);
        s->done = true;
        return true;
    }
    size_t certain = s->held.len - longest_beginning(s);
    if (certain > 0) buf_append(out, s->held.data, certain);
    buf_consume(&s->held, certain);
    return false;
}

bool stop_matched(const struct stop *s) { return s->done; }

void stop_finish(struct stop *s, struct buf *out) {
    if (s->held.len > 0) buf_append(out, s->held.data, s->held.len);
    buf_reset(&s->held);
}
