// The beginning of a call: from an HTTP request to sessions of the core. call.c goes on from there.
#include "router/front/call.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- the client's side of the exchange

static void on_closed(void *ctx) {
    struct call *c = ctx;
    c->x = NULL;
    c->gone = true;
    call_wake(c);
}

static void on_writable(void *ctx) { call_wake(ctx); }

// --- the start

static err_id header_number(const struct http_exchange *x, const char *name, uint32_t *out, struct error *e) {
    const char *text = http_header(x, name);
    if (text == NULL) return ERR_NONE;
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*text == '\0' || *end || v > UINT32_MAX || text[0] == '-')
        return error_set_param(e, ERR_INVALID_ARGUMENT, name, "the header '%s' must be a whole number", name);
    *out = (uint32_t)v;
    return ERR_NONE;
}

static err_id make_generate(const struct http_exchange *x, const struct openai_view *o, struct buf *body,
                            struct msg_generate *g, struct error *e) {
    if (!codec_prompt_encode(o->prompt, body))
        return error_set(e, ERR_TOO_LARGE, "the request is larger than %d bytes", BODY_BYTES_MAX);
    const char *pin = http_header(x, "X-Shoal-Replica");
    if (pin && strlen(pin) > NAME_MAX_BYTES)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "X-Shoal-Replica", "the header 'X-Shoal-Replica' is too long");
    snprintf(g->model, sizeof g->model, "%s", o->model);
    snprintf(g->pin, sizeof g->pin, "%s", pin ? pin : "");
    g->has_seed = o->has_seed;
    g->seed = o->seed;
    g->max_tokens = o->max_tokens;
    g->priority = o->priority;
    g->prompt_bytes = o->prompt_bytes;
    g->body = (const uint8_t *)body->data;
    g->body_len = body->len;
    return header_number(x, "X-Shoal-Deadline-Ms", &g->deadline_ms, e);
}

// Of the model of this name or alias; 0: not known.
static uint32_t context_of(const struct router_core *core, const char *model) {
    enum { MODELS = 64 };
    struct model_view *models = xcalloc(MODELS, sizeof *models);
    uint32_t n = router_core_models(core, models, MODELS), context = 0;
    for (uint32_t i = 0; i < n && i < MODELS && context == 0; i++) {
        bool is = strcmp(models[i].name, model) == 0;
        for (uint32_t a = 0; a < models[i].n_aliases && !is; a++) is = strcmp(models[i].aliases[a], model) == 0;
        if (is) context = models[i].max_context;
    }
    free(models);
    return context;
}

static void name_answer(struct call *c, const struct openai_view *o, const struct msg_generate *g) {
    char id[REQUEST_ID_TEXT];
    request_id_text(&g->key.request, id);
    c->answer = (struct openai_answer){.kind = o->kind, .created = clock_wall_ms() / 1000, .logprobs = o->prompt->logprobs};
    c->answer.include_usage = o->include_usage;
    c->answer.token_strings = o->token_strings;
    if (o->kind == OPENAI_TOKENIZE) c->answer.max_context = context_of(c->front->core, o->model);
    c->answer.event.n = o->n;
    snprintf(c->answer.id, sizeof c->answer.id, "%s-%s", o->kind == OPENAI_CHAT ? "chatcmpl" : "cmpl", id);
    snprintf(c->answer.model, sizeof c->answer.model, "%s", o->model);
}

static struct call *call_create(struct front *f, struct http_exchange *x, const struct openai_view *o,
                                const struct msg_generate *g, const struct comeback *back, ms_t now) {
    struct call *c = xcalloc(1, sizeof *c);
    c->front = f;
    c->x = x;
    c->stream = o->stream;
    c->started_at = c->written_at = now;
    name_answer(c, o, g);
    c->choices = xcalloc(o->n, sizeof *c->choices);
    c->answer.tools = xcalloc(o->n, sizeof *c->answer.tools);
    c->answer.reasoning = f->options.config->reasoning_field;
    for (uint32_t i = 0; i < o->n; i++) c->choices[i] = (struct choice){.call = c, .index = i};
    snprintf(c->ignored, sizeof c->ignored, "%s", o->ignored);
    if (o->stream) {
        c->behind = back->behind_event;
        for (uint32_t i = 0; c->behind && i < o->n; i++) c->choices[i].had = back->event.at[i];
        if (c->behind) c->answer.created = back->event.created;
        c->answer.keys = &f->keys;
        snprintf(c->answer.tenant, sizeof c->answer.tenant, "%s", g->tenant);
        c->answer.event.request = g->key.request;
        c->answer.event.created = c->answer.created;
    }
    c->next = f->calls;
    if (f->calls) f->calls->prev = c;
    f->calls = c;
    f->n_calls++;
    return c;
}

// Opens a feed for each choice, all of one seed and one deployment. False and *rejected: one was refused, none is open.
static bool open_feeds(struct call *c, struct msg_generate *g, const struct comeback *back, struct msg_rejected *rejected,
                       ms_t now) {
    struct router_core *core = c->front->core;
    for (uint32_t i = 0; i < c->answer.event.n; i++) {
        struct choice *ch = &c->choices[i];
        g->key.choice = i;
        ch->feed = feed_open(core, g, back, ch, rejected, now);
        if (ch->feed == NULL) {
            while (i-- > 0) feed_leave(core, c->choices[i].feed, &c->choices[i], now);
            return false;
        }
        struct session_view v = session_view(ch->feed->session);
        g->has_seed = true;
        g->seed = v.seed;
        snprintf(g->deployment, sizeof g->deployment, "%s", v.deployment);
    }
    return true;
}

// The seed is known now, and with it what ids of events say.
static void begin(struct call *c, const struct msg_generate *g) {
    c->answer.event.seed = g->seed;
    c->answer.event.asks = generate_asks(g);
    call_wake(c); // what is there already is rendered with the next turn
}

static void refuse(struct front *f, struct http_exchange *x, const struct error *e, uint32_t retry_after_ms) {
    front_metrics_ended(f->metrics, "refused", 0);
    front_error(f, x, e, retry_after_ms);
}

void call_start(struct front *f, struct http_exchange *x, enum openai_kind kind, const struct guard_caller *who) {
    struct error e = {0};
    struct openai_request *request = NULL;
    struct buf body = {0};
    struct msg_generate g = {0};
    size_t len;
    const char *json = http_body(x, &len);
    ms_t now = clock_ms();
    if (openai_request_parse(kind, json, len, &request, &e) != ERR_NONE) {
        refuse(f, x, &e, 0);
        return;
    }
    struct openai_view o = openai_request_view(request);
    if (f->options.config->strict == SWITCH_TRUE && o.ignored[0]) {
        error_set_param(&e, ERR_INVALID_ARGUMENT, o.ignored, "this cluster refuses fields that it doesn't know: %.400s",
                        o.ignored);
        refuse(f, x, &e, 0);
        openai_request_destroy(request);
        return;
    }
    struct comeback back;
    snprintf(g.tenant, sizeof g.tenant, "%s", who->tenant);
    if (guard_check_model(f->options.guard, who->tenant, o.model, &e) != ERR_NONE ||
        make_generate(x, &o, &body, &g, &e) != ERR_NONE ||
        comeback_read(x, &o, &f->keys, f->options.config->cluster, &g, &back, &e) != ERR_NONE) {
        refuse(f, x, &e, 0);
    } else {
        struct call *c = call_create(f, x, &o, &g, &back, now);
        struct msg_rejected rejected = {0};
        http_set_watch(x, &(struct http_watch){.ctx = c, .on_closed = on_closed, .on_writable = on_writable});
        if (open_feeds(c, &g, &back, &rejected, now)) {
            begin(c, &g);
        } else {
            call_free(c);
            http_set_watch(x, &(struct http_watch){0});
            refuse(f, x, &rejected.error, rejected.retry_after_ms);
        }
    }
    buf_free(&body);
    openai_request_destroy(request);
}
