#include "client/proxy/sse_reader.h"

#include <stdio.h>
#include <string.h>

static bool begins(const char *line, size_t len, const char *with) {
    size_t n = strlen(with);
    return len >= n && memcmp(line, with, n) == 0;
}

static void take_line(struct sse_reader *r, const char *line, size_t len) {
    if (len > 0 && line[len - 1] == '\r') len--;
    if (begins(line, len, "id:")) {
        size_t skip = len > 3 && line[3] == ' ' ? 4 : 3;
        snprintf(r->next_id, sizeof r->next_id, "%.*s", (int)(len - skip), line + skip);
    } else if (begins(line, len, "data: [DONE]")) {
        r->next_done = true;
    } else if (begins(line, len, "data: {\"error\"")) {
        r->next_failed = true;
    }
}

static void hand_on(struct sse_reader *r, struct buf *out, bool event) {
    buf_append(out, r->pending.data, r->pending.len);
    buf_reset(&r->pending);
    r->line = 0;
    if (!event) return;
    r->any = true;
    r->done = r->next_done, r->failed = r->next_failed;
    if (r->next_id[0]) memcpy(r->id, r->next_id, sizeof r->id);
    r->next_id[0] = '\0';
}

err_id sse_reader_take(struct sse_reader *r, const char *data, size_t len, struct buf *out, struct error *e) {
    while (len > 0) {
        const char *newline = memchr(data, '\n', len);
        size_t n = newline ? (size_t)(newline - data) + 1 : len;
        buf_append(&r->pending, data, n);
        data += n, len -= n;
        if (r->pending.len > SSE_EVENT_BYTES_MAX)
            return error_set(e, ERR_TOO_LARGE, "an event is larger than %d bytes", SSE_EVENT_BYTES_MAX);
        if (newline == NULL) return ERR_NONE;
        const char *line = r->pending.data + r->line;
        size_t line_len = r->pending.len - r->line - 1;
        bool first = r->line == 0, blank = line_len == 0 || (line_len == 1 && line[0] == '\r');
        bool comment = first && line[0] == ':';
        if (!blank) take_line(r, line, line_len);
        r->line = r->pending.len;
        if (blank || comment) hand_on(r, out, blank && !first);
    }
    return ERR_NONE;
}

void sse_reader_restart(struct sse_reader *r) {
    buf_reset(&r->pending);
    r->line = 0;
    r->next_id[0] = '\0';
    r->next_done = r->next_failed = false;
}

void sse_reader_fini(struct sse_reader *r) { buf_free(&r->pending); }
