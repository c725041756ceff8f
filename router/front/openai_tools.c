#include "router/front/openai_tools.h"

#include "common/base/hash.h"
#include "router/front/openai_render.h"

#include <string.h>

enum { CALL_START = 0x1e, CALL_ARGUMENTS = 0x1f }; // as the worker writes them

// What one run of text says of one call.
struct part {
    bool begins;
    const char *arguments;
    size_t len;
};

// Takes the next part off the text. False: there is none; a name that isn't complete is kept in the cursor.
static bool next_part(struct tool_cursor *c, const char **text, size_t *len, struct part *out) {
    *out = (struct part){.arguments = ""};
    if (*len > 0 && !c->in_name && **text == CALL_START) {
        c->in_name = true;
        c->name_len = 0;
        ++*text, --*len;
    }
    while (*len > 0 && c->in_name) {
        char ch = **text;
        ++*text, --*len;
        if (ch == CALL_ARGUMENTS) {
            c->in_name = false;
            c->name[c->name_len] = '\0';
            c->n_calls++;
            out->begins = true;
        } else if (c->name_len < TOOL_NAME_BYTES_MAX) {
            c->name[c->name_len++] = ch;
        }
    }
    const char *end = *len > 0 ? memchr(*text, CALL_START, *len) : NULL;
    out->arguments = *text;
    out->len = end ? (size_t)(end - *text) : *len;
    *text += out->len, *len -= out->len;
    return out->begins || (out->len > 0 && c->n_calls > 0);
}

void tool_cursor_seek(struct tool_cursor *c, const struct record_log *log, uint32_t to) {
    for (; c->offset < to; c->offset++) {
        struct record r = record_log_get(log, c->offset);
        const char *text = r.text;
        size_t len = r.channel == CHANNEL_TOOL ? r.text_len : 0;
        for (struct part part; len > 0;) next_part(c, &text, &len, &part);
    }
}

static void append_head(const struct tool_cursor *c, const char *answer_id, uint32_t choice, struct buf *out) {
    uint64_t which = (uint64_t)choice << 32 | c->n_calls;
    uint64_t hash = hash_bytes(answer_id, strlen(answer_id), which);
    buf_printf(out, "\"id\":\"call_%016llx%08x\",\"type\":\"function\",\"function\":{\"name\":", (unsigned long long)hash,
               (unsigned)hash_mix(hash));
    json_append_string(out, c->name, c->name_len);
    buf_str(out, ",\"arguments\":");
}

bool tool_deltas(struct tool_cursor *c, const char *answer_id, uint32_t choice, const char *text, size_t len,
                 struct buf *out) {
    bool any = false;
    while (len > 0) {
        struct part part;
        if (!next_part(c, &text, &len, &part)) continue;
        buf_printf(out, "%s{\"index\":%u,", any ? "," : "", c->n_calls - 1);
        if (part.begins)
            append_head(c, answer_id, choice, out);
        else
            buf_str(out, "\"type\":\"function\",\"function\":{\"arguments\":");
        json_append_string(out, part.arguments, part.len);
        buf_str(out, "}}");
        any = true;
    }
    return any;
}

uint32_t tool_calls(const char *answer_id, uint32_t choice, const char *text, size_t len, struct buf *out) {
    struct tool_cursor c = {0};
    while (len > 0) {
        struct part part;
        if (!next_part(&c, &text, &len, &part) || !part.begins) continue;
        buf_str(out, c.n_calls > 1 ? ",{" : "{");
        append_head(&c, answer_id, choice, out);
        json_append_string(out, part.arguments, part.len);
        buf_str(out, "}}");
    }
    return c.n_calls;
}
