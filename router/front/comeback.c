#include "router/front/comeback.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static err_id read_keep(const struct http_exchange *x, bool *keep, struct error *e) {
    const char *text = http_header(x, "Shoal-Resume");
    if (text == NULL) return ERR_NONE;
    *keep = strcmp(text, "1") == 0;
    if (*keep || strcmp(text, "0") == 0) return ERR_NONE;
    return error_set_param(e, ERR_INVALID_ARGUMENT, "Shoal-Resume", "the header 'Shoal-Resume' must be 1 or 0");
}

static err_id read_takeover(const struct http_exchange *x, uint32_t *takeover, struct error *e) {
    const char *text = http_header(x, "Shoal-Takeover");
    if (text == NULL) return ERR_NONE;
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || n > 1000000)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "Shoal-Takeover",
                               "the header 'Shoal-Takeover' must be a whole number");
    *takeover = (uint32_t)n;
    return ERR_NONE;
}

static err_id by_event(const char *text, const struct openai_view *o, const struct stream_keys *keys, struct msg_generate *g,
                       struct comeback *out, struct error *e) {
    struct stream_id *id = &out->event;
    if (!o->stream)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "Last-Event-ID", "Last-Event-ID goes with \"stream\": true");
    TRY(stream_id_read(text, keys, g->tenant, id, e));
    bool other_seed = g->has_seed && g->seed != id->seed;
    g->key.request = id->request;
    g->has_seed = true;
    g->seed = id->seed;
    if (other_seed || id->n != o->n || generate_asks(g) != id->asks)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "Last-Event-ID",
                               "Last-Event-ID is of the answer to another request: send the same body again");
    snprintf(g->fingerprint, sizeof g->fingerprint, "%s", id->fingerprint);
    snprintf(out->how.replica, sizeof out->how.replica, "%s", id->replica);
    out->how.takeover = id->takeover + 1;
    out->by_name = out->behind_event = true;
    return ERR_NONE;
}

static err_id by_key(const struct http_exchange *x, const char *key, const char *cluster, struct msg_generate *g,
                     struct comeback *out, struct error *e) {
    size_t n = strlen(key);
    if (n == 0 || n > IDEMPOTENCY_KEY_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "Idempotency-Key",
                               "the header 'Idempotency-Key' has %zu bytes; 1 to %d are allowed", n, IDEMPOTENCY_KEY_MAX);
    g->key.request = stream_id_of_key(cluster, g->tenant, key);
    if (!g->has_seed) g->seed = stream_id_seed(&g->key.request);
    g->has_seed = true;
    out->by_name = true;
    out->how.takeover = 1;
    return read_takeover(x, &out->how.takeover, e);
}

err_id comeback_read(const struct http_exchange *x, const struct openai_view *o, const struct stream_keys *keys,
                     const char *cluster, struct msg_generate *g, struct comeback *out, struct error *e) {
    const char *event = http_header(x, "Last-Event-ID"), *key = http_header(x, "Idempotency-Key");
    *out = (struct comeback){0};
    g->keep = key != NULL;
    TRY(read_keep(x, &g->keep, e));
    if (event) return by_event(event, o, keys, g, out, e);
    if (key) return by_key(x, key, cluster, g, out, e);
    if (getrandom(&g->key.request, sizeof g->key.request, 0) != sizeof g->key.request)
        return error_set(e, ERR_SYSTEM, "no random numbers: getrandom failed");
    return ERR_NONE;
}
