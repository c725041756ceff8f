#include "worker/text/text_runs.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

void text_runs_fini(struct text_runs *r) {
    buf_free(&r->bytes);
    free(r->runs);
    *r = (struct text_runs){0};
}

void text_runs_reset(struct text_runs *r) {
    buf_reset(&r->bytes);
    r->n = 0;
}

void text_runs_add(struct text_runs *r, enum channel channel, const char *text, size_t len) {
    if (len == 0) return;
    buf_append(&r->bytes, text, len);
    if (r->n > 0 && r->runs[r->n - 1].channel == channel) {
        r->runs[r->n - 1].len += len;
        return;
    }
    if (r->n == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 4;
        r->runs = xrealloc(r->runs, r->capacity * sizeof *r->runs);
    }
    r->runs[r->n++] = (struct text_run){channel, len};
}

void text_runs_consume(struct text_runs *r, size_t n) {
    if (n == 0) return;
    CHECK(r->n > 0 && n <= r->runs[0].len);
    buf_consume(&r->bytes, n);
    r->runs[0].len -= n;
    if (r->runs[0].len == 0) memmove(r->runs, r->runs + 1, --r->n * sizeof *r->runs);
}
