#include "common/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct error_info catalogue[ERR_COUNT] = {
#define X(id, grpc, http, retryable, type, code, sentence) {#id, grpc, http, retryable, type, code, sentence},
    ERROR_CATALOGUE(X)
#undef X
};

const struct error_info *error_info(err_id id) {
    if ((int)id < 0 || id >= ERR_COUNT) id = ERR_INTERNAL;
    return &catalogue[id];
}

err_id error_set(struct error *e, err_id id, const char *format, ...) {
    if (e == NULL) return id;
    va_list ap;
    va_start(ap, format);
    e->id = id;
    e->param[0] = '\0';
    vsnprintf(e->text, sizeof e->text, format, ap);
    va_end(ap);
    return id;
}

err_id error_set_param(struct error *e, err_id id, const char *param, const char *format, ...) {
    if (e == NULL) return id;
    va_list ap;
    va_start(ap, format);
    e->id = id;
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    vsnprintf(e->text, sizeof e->text, format, ap);
    va_end(ap);
    return id;
}

err_id error_wrap(struct error *e, const char *format, ...) {
    if (e == NULL) return ERR_INTERNAL;
    char joined[2 * ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(joined, ERROR_TEXT_MAX, format, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < ERROR_TEXT_MAX ? (size_t)n : ERROR_TEXT_MAX - 1;
    snprintf(joined + used, sizeof joined - used, ": %s", e->text);
    memcpy(e->text, joined, sizeof e->text - 1);
    e->text[sizeof e->text - 1] = '\0';
    return e->id;
}

const char *error_text(const struct error *e) { return e->text[0] ? e->text : error_info(e->id)->sentence; }

// Optimal string alignment distance over at most 63 characters; longer words are never near.
static size_t distance(const char *a, const char *b) {
    enum { MAX = 64 };
    size_t la = strlen(a), lb = strlen(b), row[3][MAX];
    if (la >= MAX || lb >= MAX) return MAX;
    size_t *before = row[0], *last = row[1], *now = row[2];
    for (size_t j = 0; j <= lb; j++) last[j] = j;
    for (size_t i = 1; i <= la; i++) {
        now[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *t = before;
        before = last, last = now, now = t;
    }
    return last[lb];
}

const char *error_nearest(const char *word, const char *const *candidates, size_t n) {
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, candidates[i]);
        if (d < best_distance) best_distance = d, best = candidates[i];
    }
    return best;
}
