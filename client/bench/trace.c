#include "client/bench/trace.h"

#include "common/base/check.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct reader {
    struct trace *out;
    const char *path;
    uint32_t line, capacity, blocks_capacity;
    bool csv, dated;
    double first_s; // the first request's time
};

static err_id wrong(const struct reader *r, struct error *e, const char *what) {
    return error_set(e, ERR_INVALID_ARGUMENT, "%s, line %u: %s", r->path, r->line, what);
}

static err_id add(struct reader *r, double at_s, double prompt, double output, struct error *e) {
    struct trace *t = r->out;
    if (!(prompt >= 0 && prompt <= TRACE_TOKENS_MAX && output >= 0 && output <= TRACE_TOKENS_MAX))
        return wrong(r, e, "a length is not a number of tokens from 0 to 4194304");
    if (t->n == TRACE_REQUESTS_MAX) return wrong(r, e, "more than 4194304 requests");
    if (!r->dated) r->first_s = at_s;
    r->dated = true;
    at_s -= r->first_s;
    if (at_s < 0 || (t->n > 0 && at_s < t->requests[t->n - 1].at_s))
        return wrong(r, e, "earlier than the request before it");
    if (t->n == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 1024;
        t->requests = xrealloc(t->requests, r->capacity * sizeof *t->requests);
    }
    t->requests[t->n++] = (struct trace_request){
        .at_s = at_s,
        .prompt_tokens = prompt < 1 ? 1 : (uint32_t)prompt,
        .output_tokens = output < 1 ? 1 : (uint32_t)output,
        .first_block = t->n_blocks,
    };
    return ERR_NONE;
}

// "2023-11-16 18:15:46.6805900", perhaps with a zone, which is the same for all.
static bool read_date(const char *text, double *seconds) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);
    if (rest == NULL) return false;
    *seconds = (double)timegm(&tm) + (*rest == '.' ? strtod(rest, NULL) : 0);
    return true;
}

static err_id read_csv_line(struct reader *r, char *line, struct error *e) {
    double at_s;
    char *prompt = strchr(line, ','), *output = prompt ? strchr(prompt + 1, ',') : NULL, *end;
    if (output == NULL) return wrong(r, e, "expected TIMESTAMP,ContextTokens,GeneratedTokens");
    *prompt++ = *output++ = '\0';
    if (!read_date(line, &at_s)) return wrong(r, e, "the time is not like 2023-11-16 18:15:46.68");
    double n_prompt = strtod(prompt, &end);
    if (*end || end == prompt) return wrong(r, e, "ContextTokens is not a number");
    double n_output = strtod(output, &end);
    if (*end || end == output) return wrong(r, e, "GeneratedTokens is not a number");
    return add(r, at_s, n_prompt, n_output, e);
}

static void add_blocks(struct reader *r, const json_t *ids) {
    struct trace *t = r->out;
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id) {
        if (t->n_blocks == r->blocks_capacity) {
            r->blocks_capacity = r->blocks_capacity ? r->blocks_capacity * 2 : 4096;
            t->blocks = xrealloc(t->blocks, r->blocks_capacity * sizeof *t->blocks);
        }
        t->blocks[t->n_blocks++] = (uint64_t)json_integer_value(id);
        t->requests[t->n - 1].n_blocks++;
    }
}

static err_id read_json_line(struct reader *r, const char *line, struct error *e) {
    json_t *root = json_loads(line, 0, NULL);
    json_t *at = json_object_get(root, "timestamp"), *prompt = json_object_get(root, "input_length"),
           *output = json_object_get(root, "output_length");
    err_id id;
    if (!json_is_number(at) || !json_is_number(prompt) || !json_is_number(output))
        id = wrong(r, e, "expected {\"timestamp\": ms, \"input_length\": n, \"output_length\": n, …}");
    else
        id = add(r, json_number_value(at) / 1000, json_number_value(prompt), json_number_value(output), e);
    if (id == ERR_NONE) add_blocks(r, json_object_get(root, "hash_ids"));
    json_decref(root);
    return id;
}

static err_id read_line(struct reader *r, char *line, struct error *e) {
    line[strcspn(line, "\r\n")] = '\0';
    r->line++;
    if (r->line == 1) r->csv = line[0] != '{';
    if (line[0] == '\0' || (r->csv && r->line == 1 && strncmp(line, "TIMESTAMP", 9) == 0)) return ERR_NONE;
    return r->csv ? read_csv_line(r, line, e) : read_json_line(r, line, e);
}

err_id trace_load(const char *path, struct trace *out, struct error *e) {
    struct reader r = {.out = out, .path = path};
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    err_id id = ERR_NONE;
    *out = (struct trace){0};
    if (f == NULL) return error_set(e, ERR_SYSTEM, "cannot read the trace %s: %s", path, strerror(errno));
    while (id == ERR_NONE && getline(&line, &size, f) > 0) id = read_line(&r, line, e);
    free(line);
    fclose(f);
    if (id == ERR_NONE && out->n == 0) id = error_set(e, ERR_INVALID_ARGUMENT, "the trace %s holds no request", path);
    if (id != ERR_NONE) trace_free(out);
    return id;
}

void trace_free(struct trace *t) {
    free(t->requests);
    free(t->blocks);
    *t = (struct trace){0};
}
