#include "worker/text/json_object_head.h"

#include <stdbool.h>
#include <string.h>

struct cursor {
    const char *s;
    size_t n, at;
};

enum step { STEP_OK, STEP_MORE, STEP_OTHER };

static enum step skip_space(struct cursor *c) {
    while (c->at < c->n && memchr(" \n\r\t", c->s[c->at], 4)) c->at++;
    return c->at < c->n ? STEP_OK : STEP_MORE;
}

static enum step expect(struct cursor *c, char what) {
    enum step s = skip_space(c);
    if (s != STEP_OK) return s;
    return c->s[c->at++] == what ? STEP_OK : STEP_OTHER;
}

// A string without escapes: the only kind that names have.
static enum step string(struct cursor *c, size_t *from, size_t *len) {
    enum step s = expect(c, '"');
    if (s != STEP_OK) return s;
    *from = c->at;
    while (c->at < c->n && c->s[c->at] != '"' && c->s[c->at] != '\\') c->at++;
    if (c->at == c->n) return STEP_MORE;
    if (c->s[c->at] == '\\') return STEP_OTHER;
    *len = c->at++ - *from;
    return STEP_OK;
}

static enum step key(struct cursor *c, const char *a, const char *b) {
    size_t from = 0, len = 0;
    enum step s = string(c, &from, &len);
    if (s != STEP_OK) return s;
    bool is =
        (len == strlen(a) && memcmp(c->s + from, a, len) == 0) || (len == strlen(b) && memcmp(c->s + from, b, len) == 0);
    return is ? expect(c, ':') : STEP_OTHER;
}

static enum step usual(struct cursor *c, struct json_object_head *out) {
    enum step s = expect(c, '{');
    if (s == STEP_OK) s = key(c, "name", "name");
    if (s == STEP_OK) s = string(c, &out->name, &out->name_len);
    if (s == STEP_OK) s = expect(c, ',');
    if (s == STEP_OK) s = key(c, "arguments", "parameters");
    if (s == STEP_OK) s = skip_space(c);
    if (s != STEP_OK) return s;
    out->arguments = c->at;
    return c->s[c->at] == '{' ? STEP_OK : STEP_OTHER;
}

// Offset behind the object at s, or 0 while it isn't complete.
static size_t object_end(const char *s, size_t n) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string && s[i] == '\\') {
            i++;
        } else if (s[i] == '"') {
            in_string = !in_string;
        } else if (!in_string && (s[i] == '{' || s[i] == '[')) {
            depth++;
        } else if (!in_string && (s[i] == '}' || s[i] == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

enum json_head json_object_head(const char *s, size_t n, struct json_object_head *out) {
    struct cursor c = {s, n, 0};
    *out = (struct json_object_head){0};
    if (skip_space(&c) == STEP_MORE) return JSON_HEAD_MORE;
    if (s[c.at] != '{') return JSON_HEAD_NONE;
    size_t open = c.at;
    enum step step = usual(&c, out);
    if (step == STEP_OK) return JSON_HEAD_CALL;
    if (step == STEP_MORE) return JSON_HEAD_MORE;
    size_t len = object_end(s + open, n - open);
    out->end = open + len;
    return len > 0 ? JSON_HEAD_WHOLE : JSON_HEAD_MORE;
}
