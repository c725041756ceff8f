// Design notes. The machine works on `held`: a step either takes something off its front or says that it needs more text.
// Headers of calls are short and held whole; arguments stream through a scanner that knows where a JSON value ends. A
// header that is written in an unusual order is held until its object is complete and read as JSON.
#include "worker/text/tool_parser.h"

#include "common/base/check.h"
#include "common/base/limits.h"
#include "worker/text/json_object_head.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum state {
    TEXT,      // content, until a mark
    HEADER,    // behind a mark: name and the way to the arguments
    SKIP,      // DeepSeek: between the name and the arguments' brace
    ARGUMENTS, // inside the arguments
    CLOSING,   // JSON styles: behind the arguments, inside the object around them
    TRAILER,   // behind a call: its closing mark
    BETWEEN,   // DeepSeek: another call, or the end of all; Llama: another object
};

// A header of DeepSeek's is a type, a mark and a name.
enum { HEADER_BYTES_MAX = TOOL_NAME_BYTES_MAX + 64 };

void tool_parser_init(struct tool_parser *p, enum tool_style style, uint32_t limit) {
    *p = (struct tool_parser){.style = style, .limit = limit};
}

void tool_parser_fini(struct tool_parser *p) {
    buf_free(&p->held);
    buf_free(&p->opened);
}

bool tool_parser_full(const struct tool_parser *p) { return p->limit > 0 && p->n_complete >= p->limit; }

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
static bool is_deepseek(const struct tool_parser *p) {
    return p->style == TOOL_STYLE_DEEPSEEK_V3 || p->style == TOOL_STYLE_DEEPSEEK_V31;
}
static size_t leading_space(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && is_space(s[i])) i++;
    return i;
}

enum match { MATCH_NO, MATCH_PART, MATCH_YES };

// Does s begin with the mark, or is it a beginning of it?
static enum match match_mark(const char *s, size_t n, const char *mark) {
    size_t len = strlen(mark), same = n < len ? n : len;
    if (memcmp(s, mark, same) != 0) return MATCH_NO;
    return same == len ? MATCH_YES : MATCH_PART;
}

// ---- what comes out

static void put_content(struct tool_parser *p, size_t n, struct text_runs *out) {
    text_runs_add(out, CHANNEL_CONTENT, p->held.data, n);
    if (leading_space(p->held.data, n) < n) p->begun = true;
    buf_consume(&p->held, n);
}

static void put_arguments(const char *s, size_t n, struct text_runs *out) {
    size_t from = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && s[i] != TOOL_CALL_START && s[i] != TOOL_CALL_ARGUMENTS) continue;
        text_runs_add(out, CHANNEL_TOOL, s + from, i - from);
        from = i + 1;
    }
}

static bool is_name(const char *s, size_t n) {
    if (n == 0 || n > TOOL_NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == '"' || s[i] == '\\') return false;
    return true;
}

static void put_call(struct tool_parser *p, const char *name, size_t n, struct text_runs *out) {
    static const char start = TOOL_CALL_START, arguments = TOOL_CALL_ARGUMENTS;
    text_runs_add(out, CHANNEL_TOOL, &start, 1);
    text_runs_add(out, CHANNEL_TOOL, name, n);
    text_runs_add(out, CHANNEL_TOOL, &arguments, 1);
    p->n_calls++;
    buf_reset(&p->opened);
}

// What was held for a call is none.
static bool give_back(struct tool_parser *p, struct text_runs *out) {
    text_runs_add(out, CHANNEL_CONTENT, p->opened.data, p->opened.len);
    buf_reset(&p->opened);
    p->begun = true;
    p->state = TEXT;
    return true;
}

// ---- content

static const char *const *marks_of(const struct tool_parser *p) {
    static const char *const hermes[] = {TOOL_CALL_OPEN, NULL}, *const llama3[] = {TOOL_PYTHON_TAG, NULL};
    static const char *const deepseek[] = {TOOL_CALLS_BEGIN, TOOL_CALL_BEGIN, NULL}, *const none[] = {NULL};
    if (p->style == TOOL_STYLE_HERMES) return hermes;
    if (p->style == TOOL_STYLE_LLAMA3) return llama3;
    return is_deepseek(p) ? deepseek : none;
}

// The first place where a mark stands or may yet come to stand; held.len: nowhere.
static size_t find_mark(const struct tool_parser *p, const char **mark, enum match *match) {
    for (size_t i = 0; i < p->held.len; i++) {
        for (const char *const *m = marks_of(p); *m; m++) {
            *match = match_mark(p->held.data + i, p->held.len - i, *m);
            *mark = *m;
            if (*match != MATCH_NO) return i;
        }
    }
    *match = MATCH_NO;
    return p->held.len;
}

// n: bytes of white space and mark at the front.
static bool open_call(struct tool_parser *p, size_t n, int state) {
    buf_reset(&p->opened);
    buf_append(&p->opened, p->held.data, n);
    buf_consume(&p->held, n);
    p->state = state;
    return true;
}

static bool in_text(struct tool_parser *p, bool final, struct text_runs *out) {
    if (p->held.len == 0) return false;
    size_t space = leading_space(p->held.data, p->held.len);
    if (p->style == TOOL_STYLE_LLAMA3 && !p->begun && p->n_calls == 0 && space < p->held.len && p->held.data[space] == '{') {
        p->bare = true;
        return open_call(p, space, HEADER);
    }
    const char *mark;
    enum match match;
    size_t at = find_mark(p, &mark, &match), end = at;
    if (match == MATCH_PART && final) at = end = p->held.len, match = MATCH_NO;
    while (end > 0 && is_space(p->held.data[end - 1])) end--; // may be the space before a call
    if (match == MATCH_YES) {
        put_content(p, end, out);
        p->bare = false;
        return open_call(p, at - end + strlen(mark), strcmp(mark, TOOL_CALLS_BEGIN) == 0 ? BETWEEN : HEADER);
    }
    if (final && (end > 0 || p->n_calls == 0)) end = p->held.len;
    put_content(p, end, out);
    if (final) buf_reset(&p->held);
    return false;
}

// ---- headers

// The whole object is here: its name and arguments in whatever order.
static bool whole_object(struct tool_parser *p, size_t len, struct text_runs *out) {
    json_t *call = json_loadb(p->held.data, len, JSON_ALLOW_NUL, NULL);
    const json_t *name = json_object_get(call, "name"), *arguments = json_object_get(call, "arguments");
    if (arguments == NULL) arguments = json_object_get(call, "parameters");
    bool is_call = json_is_string(name) && is_name(json_string_value(name), json_string_length(name)) &&
                   (arguments != NULL || !p->bare);
    if (is_call) {
        char *text = json_is_string(arguments) ? NULL : json_dumps(arguments, JSON_ENCODE_ANY);
        const char *plain = json_is_string(arguments) ? json_string_value(arguments) : text ? text : "{}";
        put_call(p, json_string_value(name), json_string_length(name), out);
        put_arguments(plain, strlen(plain), out);
        free(text);
        p->n_complete++;
        buf_consume(&p->held, len);
        p->state = TRAILER;
    }
    json_decref(call);
    return is_call || give_back(p, out);
}

static void enter_arguments(struct tool_parser *p) {
    p->state = ARGUMENTS;
    p->depth = 0;
    p->in_string = p->escaped = false;
    p->no_arguments = true;
}

static bool json_header(struct tool_parser *p, bool final, struct text_runs *out) {
    struct json_object_head head;
    buf_consume(&p->held, leading_space(p->held.data, p->held.len));
    switch (json_object_head(p->held.data, p->held.len, &head)) {
    case JSON_HEAD_CALL:
        if (!is_name(p->held.data + head.name, head.name_len)) return give_back(p, out);
        put_call(p, p->held.data + head.name, head.name_len, out);
        buf_consume(&p->held, head.arguments);
        enter_arguments(p);
        return true;
    case JSON_HEAD_WHOLE:
        return whole_object(p, head.end, out);
    case JSON_HEAD_NONE:
        return give_back(p, out);
    default:
        return final && give_back(p, out);
    }
}

static bool deepseek_header(struct tool_parser *p, bool final, struct text_runs *out) {
    const char *s = p->held.data, *sep = p->held.len ? memmem(s, p->held.len, TOOL_SEP, strlen(TOOL_SEP)) : NULL;
    if (sep == NULL) return (final || p->held.len > HEADER_BYTES_MAX) && give_back(p, out);
    size_t name = leading_space(s, (size_t)(sep - s)), end = (size_t)(sep - s), behind = end + strlen(TOOL_SEP);
    bool typed = p->style == TOOL_STYLE_DEEPSEEK_V3 && end - name == 8 && memcmp(s + name, "function", 8) == 0;
    if (typed) {
        const char *line = memchr(s + behind, '\n', p->held.len - behind);
        if (line == NULL) return (final || p->held.len > HEADER_BYTES_MAX) && give_back(p, out);
        name = behind + leading_space(s + behind, (size_t)(line - s) - behind);
        end = behind = (size_t)(line - s);
    }
    while (end > name && is_space(s[end - 1])) end--;
    if (!is_name(s + name, end - name)) return give_back(p, out);
    put_call(p, s + name, end - name, out);
    buf_consume(&p->held, behind);
    p->state = SKIP;
    return true;
}

static bool in_header(struct tool_parser *p, bool final, struct text_runs *out) {
    if (p->held.len == 0) return final && give_back(p, out);
    return is_deepseek(p) ? deepseek_header(p, final, out) : json_header(p, final, out);
}

static bool in_skip(struct tool_parser *p) {
    size_t space = leading_space(p->held.data, p->held.len);
    buf_consume(&p->held, space);
    if (p->held.len == 0) return false;
    enum match fence = match_mark(p->held.data, p->held.len, "```json");
    if (fence == MATCH_PART) return false;
    if (fence == MATCH_YES) {
        buf_consume(&p->held, strlen("```json"));
        return true;
    }
    enter_arguments(p);
    return true;
}

// ---- arguments

// Walks from held[from] to where the value at p->depth ends, to a "<" or "`" outside strings, or to the end of what is held.
static size_t walk(struct tool_parser *p, bool *ended) {
    size_t i = 0;
    *ended = false;
    for (; i < p->held.len && !*ended; i++) {
        char c = p->held.data[i];
        if (p->escaped) {
            p->escaped = false;
        } else if (p->in_string) {
            p->escaped = c == '\\';
            p->in_string = c != '"';
        } else if (c == '<' || c == '`') {
            *ended = true;
            return i;
        } else if (c == '{' || c == '[') {
            p->depth++;
        } else if (c == '}' || c == ']') {
            *ended = p->depth <= 1;
            p->depth -= p->depth > 0;
        } else {
            p->in_string = c == '"';
        }
    }
    return i;
}

static bool in_arguments(struct tool_parser *p, struct text_runs *out) {
    bool ended;
    if (p->held.len == 0) return false;
    size_t n = walk(p, &ended);
    put_arguments(p->held.data, n, out);
    buf_consume(&p->held, n);
    if (n > 0) p->no_arguments = false;
    if (!ended) return false;
    if (p->no_arguments) put_arguments("{}", 2, out);
    p->n_complete++;
    p->state = is_deepseek(p) ? TRAILER : CLOSING;
    p->depth = 1;
    p->in_string = p->escaped = false;
    return true;
}

// ---- behind a call

static bool in_closing(struct tool_parser *p) {
    bool ended;
    if (p->held.len == 0) return false;
    buf_consume(&p->held, walk(p, &ended));
    if (!ended) return false;
    p->state = TRAILER;
    return true;
}

// Takes the mark off the front, or waits for the rest of it. Without it goes on at once.
static bool pass_mark(struct tool_parser *p, const char *mark, int next) {
    enum match m = match_mark(p->held.data, p->held.len, mark);
    if (m == MATCH_PART) return false;
    if (m == MATCH_YES) buf_consume(&p->held, strlen(mark));
    p->state = next;
    return true;
}

static bool in_trailer(struct tool_parser *p) {
    buf_consume(&p->held, leading_space(p->held.data, p->held.len));
    if (p->held.len == 0) return false;
    if (p->style == TOOL_STYLE_HERMES) return pass_mark(p, TOOL_CALL_CLOSE, TEXT);
    if (p->style == TOOL_STYLE_LLAMA3) {
        p->state = BETWEEN;
        return true;
    }
    if (match_mark(p->held.data, p->held.len, "```") != MATCH_NO) return pass_mark(p, "```", TRAILER);
    return pass_mark(p, TOOL_CALL_END, BETWEEN);
}

static bool between_objects(struct tool_parser *p) {
    size_t n = 0;
    while (n < p->held.len && (is_space(p->held.data[n]) || p->held.data[n] == ';' || p->held.data[n] == ',')) n++;
    buf_consume(&p->held, n);
    if (p->held.len == 0) return false;
    p->bare = true;
    return open_call(p, 0, p->held.data[0] == '{' ? HEADER : TEXT);
}

static bool in_between(struct tool_parser *p, struct text_runs *out) {
    buf_consume(&p->held, leading_space(p->held.data, p->held.len));
    if (p->style == TOOL_STYLE_LLAMA3) return between_objects(p);
    if (p->held.len == 0) return false;
    enum match begin = match_mark(p->held.data, p->held.len, TOOL_CALL_BEGIN);
    enum match end = match_mark(p->held.data, p->held.len, TOOL_CALLS_END);
    if (begin == MATCH_YES) return open_call(p, strlen(TOOL_CALL_BEGIN), HEADER);
    if (begin == MATCH_PART || end == MATCH_PART) return false;
    if (end == MATCH_NO) return give_back(p, out);
    buf_consume(&p->held, strlen(TOOL_CALLS_END));
    p->state = TEXT;
    return true;
}

// ---- the machine

// True: something was decided, and there may be more to do.
static bool step(struct tool_parser *p, bool final, struct text_runs *out) {
    if (tool_parser_full(p)) {
        buf_reset(&p->held);
        return false;
    }
    switch ((enum state)p->state) {
    case TEXT:
        return in_text(p, final, out);
    case HEADER:
        return in_header(p, final, out);
    case SKIP:
        return in_skip(p);
    case ARGUMENTS:
        return in_arguments(p, out);
    case CLOSING:
        return in_closing(p);
    case TRAILER:
        return in_trailer(p);
    case BETWEEN:
        return in_between(p, out);
    }
    return false;
}

void tool_parser_push(struct tool_parser *p, const char *text, size_t len, struct text_runs *out) {
    if (len == 0) return;
    if (p->style == TOOL_STYLE_NONE) {
        text_runs_add(out, CHANNEL_CONTENT, text, len);
        return;
    }
    buf_append(&p->held, text, len);
    while (step(p, false, out)) {
    }
}

void tool_parser_finish(struct tool_parser *p, struct text_runs *out) {
    if (p->style == TOOL_STYLE_NONE) return;
    while (step(p, true, out)) {
    }
}
