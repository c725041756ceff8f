// Design notes. A grammar's masks are kept with it and belong to the loop thread; networks and the vocabulary never change.
// The list of grammars has a lock, because jobs of the pool look into it; two that compile the same text at once both do,
// and the later one takes the earlier one's result.
#include "worker/main/constraint.h"

#include "common/base/check.h"
#include "worker/grammar/grammar.h"
#include "worker/grammar/mask.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char THINKING_ENDS[] = "</think>";

struct grammar {
    enum grammar_kind kind;
    char *text;
    size_t len;
    struct network net;
    struct mask_cache *masks;
    uint32_t users;
    uint64_t used; // when last, by the list's own count
};

struct grammars {
    pthread_mutex_t lock;
    const struct tokenizer *tokenizer;
    uint32_t vocab;
    struct vocabulary *vocabulary; // made with the first grammar
    char bytes[256];               // the mock's tokens
    struct grammar **list;
    uint32_t n;
    uint64_t uses;
};

struct constraint {
    struct grammars *grammars;
    struct grammar *grammar;
    struct matcher matcher;
    bool begun, lost; // lost: a token didn't fit
    char tail[2 * sizeof THINKING_ENDS];
    size_t n_tail;
};

struct grammars *grammars_create(const struct tokenizer *tokenizer, uint32_t vocab) {
    struct grammars *g = xcalloc(1, sizeof *g);
    g->tokenizer = tokenizer;
    g->vocab = vocab;
    for (uint32_t i = 0; i < sizeof g->bytes; i++) g->bytes[i] = (char)i;
    CHECK(pthread_mutex_init(&g->lock, NULL) == 0);
    return g;
}

static void grammar_destroy(struct grammar *x) {
    mask_cache_destroy(x->masks);
    network_fini(&x->net);
    free(x->text);
    free(x);
}

void grammars_destroy(struct grammars *g) {
    if (g == NULL) return;
    for (uint32_t i = 0; i < g->n; i++) grammar_destroy(g->list[i]);
    free(g->list);
    vocabulary_destroy(g->vocabulary);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

// Special tokens are no part of a text.
static const char *token_bytes(void *ctx, uint32_t id, size_t *len) {
    const struct grammars *g = ctx;
    if (g->tokenizer == NULL) {
        *len = id < sizeof g->bytes;
        return &g->bytes[id % sizeof g->bytes];
    }
    struct bytes b = {0};
    if (!tokenizer_is_special(g->tokenizer, id)) b = tokenizer_token_bytes(g->tokenizer, id);
    *len = b.len;
    return b.data;
}

// Under the lock.
static struct grammar *look_up(struct grammars *g, enum grammar_kind kind, const char *text, size_t len) {
    for (uint32_t i = 0; i < g->n; i++) {
        struct grammar *x = g->list[i];
        if (x->kind != kind || x->len != len || memcmp(x->text, text, len) != 0) continue;
        x->users++;
        x->used = ++g->uses;
        return x;
    }
    return NULL;
}

// Under the lock: the one unused for longest goes, when there are too many.
static void make_room(struct grammars *g) {
    struct grammar **oldest = NULL;
    for (uint32_t i = 0; i < g->n; i++)
        if (g->list[i]->users == 0 && (oldest == NULL || g->list[i]->used < (*oldest)->used)) oldest = &g->list[i];
    if (g->n < GRAMMARS_KEPT || oldest == NULL) return;
    grammar_destroy(*oldest);
    *oldest = g->list[--g->n];
}

// Takes x over; it or its equal comes back, with one user more.
static struct grammar *add(struct grammars *g, struct grammar *x) {
    pthread_mutex_lock(&g->lock);
    struct grammar *found = look_up(g, x->kind, x->text, x->len);
    if (found == NULL) {
        make_room(g);
        if (g->vocabulary == NULL) g->vocabulary = vocabulary_create(g->vocab, token_bytes, g);
        x->masks = mask_cache_create(g->vocabulary, GRAMMAR_MASKS_BYTES);
        g->list = xrealloc(g->list, (g->n + 1) * sizeof *g->list);
        g->list[g->n++] = x;
        x->users = 1;
        x->used = ++g->uses;
    }
    pthread_mutex_unlock(&g->lock);
    if (found) grammar_destroy(x);
    return found ? found : x;
}

static err_id grammar_of(struct grammars *g, enum grammar_kind kind, const char *text, struct grammar **out,
                         struct error *e) {
    size_t len = strlen(text);
    pthread_mutex_lock(&g->lock);
    *out = look_up(g, kind, text, len);
    pthread_mutex_unlock(&g->lock);
    if (*out != NULL) return ERR_NONE;
    struct grammar *x = xcalloc(1, sizeof *x);
    x->kind = kind;
    x->text = xstrdup(text);
    x->len = len;
    struct error why = {0};
    if (grammar_compile(kind, text, len, &x->net, &why) != ERR_NONE) {
        grammar_destroy(x);
        return error_set_param(e, ERR_INVALID_ARGUMENT, "response_format", "%s", why.text);
    }
    *out = add(g, x);
    return ERR_NONE;
}

err_id constraint_create(struct grammars *g, const struct prompt *p, bool inside, struct constraint **out, struct error *e) {
    static const enum grammar_kind KINDS[] = {[RESPONSE_JSON_OBJECT] = GRAMMAR_JSON_OBJECT,
                                              [RESPONSE_JSON_SCHEMA] = GRAMMAR_JSON_SCHEMA,
                                              [RESPONSE_REGEX] = GRAMMAR_REGEX};
    *out = NULL;
    if (p->response_format == RESPONSE_TEXT) return ERR_NONE;
    const char *text = p->response_format == RESPONSE_JSON_SCHEMA ? p->response_schema
                       : p->response_format == RESPONSE_REGEX     ? p->response_regex
                                                                  : "";
    struct grammar *grammar;
    TRY(grammar_of(g, KINDS[p->response_format], text ? text : "", &grammar, e));
    struct constraint *c = *out = xcalloc(1, sizeof *c);
    c->grammars = g;
    c->grammar = grammar;
    c->begun = !inside;
    matcher_init(&c->matcher, &grammar->net, g->vocabulary->bytes_max);
    return ERR_NONE;
}

void constraint_destroy(struct constraint *c) {
    if (c == NULL) return;
    pthread_mutex_lock(&c->grammars->lock);
    c->grammar->users--;
    pthread_mutex_unlock(&c->grammars->lock);
    matcher_fini(&c->matcher);
    free(c);
}

// The form begins behind the token that closes the reasoning.
static void look_for_end_of_thinking(struct constraint *c, uint32_t token) {
    const char *s = NULL;
    size_t len = 0;
    if (c->grammars->tokenizer == NULL) {
        s = token_bytes(c->grammars, token, &len);
    } else {
        struct bytes b = tokenizer_token_bytes(c->grammars->tokenizer, token);
        s = b.data, len = b.len;
    }
    for (size_t i = 0; i < len && !c->begun; i++) {
        if (c->n_tail == sizeof THINKING_ENDS - 1) memmove(c->tail, c->tail + 1, --c->n_tail);
        c->tail[c->n_tail++] = s[i];
        c->begun = c->n_tail == sizeof THINKING_ENDS - 1 && memcmp(c->tail, THINKING_ENDS, c->n_tail) == 0;
    }
}

void constraint_push(struct constraint *c, uint32_t token) {
    if (!c->begun) {
        look_for_end_of_thinking(c, token);
        return;
    }
    size_t len = 0;
    const char *s = token_bytes(c->grammars, token, &len);
    if (len == 0 || !matcher_push(&c->matcher, s, len)) c->lost = true;
}

bool constraint_ended(const struct constraint *c) { return c->begun && matcher_ended(&c->matcher); }

bool constraint_mask(struct constraint *c, uint32_t *mask, bool *complete) {
    if (!c->begun) return false;
    bool ok = mask_fill(c->grammar->masks, &c->matcher, mask) && !c->lost;
    if (!ok) memset(mask, 0, (c->grammars->vocab + 31) / 32 * sizeof *mask);
    *complete = ok && matcher_complete(&c->matcher);
    return true;
}
