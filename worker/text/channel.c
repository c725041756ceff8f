#include "worker/text/channel.h"

#include "worker/text/utf8.h"

#include <string.h>

const char CHANNEL_OPEN[] = "<think>";
const char CHANNEL_CLOSE[] = "</think>";

// An answer that begins with so much white space does not begin with a mark any more.
enum { START_SPACE_MAX = 64 };

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool channel_starts_inside(const char *prompt, size_t len) {
    size_t open = sizeof CHANNEL_OPEN - 1;
    while (len > 0 && is_space(prompt[len - 1])) len--;
    return len >= open && memcmp(prompt + len - open, CHANNEL_OPEN, open) == 0;
}

void channel_init(struct channel_splitter *c, bool starts_inside) {
    *c = (struct channel_splitter){.state = starts_inside ? CHANNEL_STATE_REASONING : CHANNEL_STATE_START,
                                   .skip_newlines = starts_inside};
}

void channel_fini(struct channel_splitter *c) { buf_free(&c->held); }

// Length of the longest end of s that is a beginning of the mark, shorter than the whole mark.
static size_t end_in_mark(const char *s, size_t n, const char *mark, size_t mark_len) {
    size_t k = n < mark_len - 1 ? n : mark_len - 1;
    while (k > 0 && memcmp(s + n - k, mark, k) != 0) k--;
    return k;
}

static void put(struct channel_splitter *c, size_t n, struct buf *out) {
    size_t skip = 0;
    while (c->skip_newlines && skip < n && c->held.data[skip] == '\n') skip++;
    if (skip < n) {
        c->skip_newlines = false;
        buf_append(out, c->held.data + skip, n - skip);
    }
    buf_consume(&c->held, n);
}

// Decides what the answer begins with, once enough of it is there. Text that isn't a mark keeps its white space.
static void leave_start(struct channel_splitter *c, bool final) {
    size_t n = c->held.len, space = 0, open = sizeof CHANNEL_OPEN - 1;
    while (space < n && is_space(c->held.data[space])) space++;
    size_t same = n - space < open ? n - space : open;
    bool could_be = space <= START_SPACE_MAX && (same == 0 || memcmp(c->held.data + space, CHANNEL_OPEN, same) == 0);
    if (could_be && same == open) {
        c->state = CHANNEL_STATE_REASONING;
        c->skip_newlines = true;
        buf_consume(&c->held, space + open);
    } else if (!could_be || final) {
        c->state = CHANNEL_STATE_CONTENT;
    }
}

static void reason(struct channel_splitter *c, bool final, struct buf *reasoning) {
    size_t close = sizeof CHANNEL_CLOSE - 1;
    const char *mark = c->held.len >= close ? memmem(c->held.data, c->held.len, CHANNEL_CLOSE, close) : NULL;
    if (mark == NULL) {
        size_t keep = final || c->held.len == 0 ? 0 : end_in_mark(c->held.data, c->held.len, CHANNEL_CLOSE, close);
        put(c, c->held.len - keep, reasoning);
        return;
    }
    put(c, (size_t)(mark - c->held.data), reasoning);
    buf_consume(&c->held, close);
    c->state = CHANNEL_STATE_CONTENT;
    c->skip_newlines = true;
}

static void run(struct channel_splitter *c, bool final, struct buf *reasoning, struct buf *content) {
    if (c->state == CHANNEL_STATE_START) leave_start(c, final);
    if (c->state == CHANNEL_STATE_REASONING) reason(c, final, reasoning);
    if (c->state == CHANNEL_STATE_CONTENT) put(c, c->held.len, content);
}

void channel_push(struct channel_splitter *c, const char *text, size_t len, struct buf *reasoning, struct buf *content) {
    if (len == 0) return;
    buf_append(&c->held, text, len);
    run(c, false, reasoning, content);
}

void channel_finish(struct channel_splitter *c, struct buf *reasoning, struct buf *content) {
    run(c, true, reasoning, content);
}
