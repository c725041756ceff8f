#include "client/cli/answer.h"

#include "common/sys/clock.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

void answer_begin(struct answer *a) {
    buf_reset(&a->text), buf_reset(&a->thoughts), buf_reset(&a->tokens);
    a->n_tokens = a->attempts = 0;
    a->finish[0] = '\0';
    a->first_ms = a->last_ms = a->end_ms = a->pause_ms = 0;
    a->dim = false;
    a->begin_ms = clock_ms();
}

static void set_dim(struct answer *a, bool dim) {
    if (a->dim == dim) return;
    a->dim = dim;
    if (cli_colour())
        fputs(dim ? CLI_DIM : CLI_PLAIN, stdout);
    else if (!dim)
        fputs("\n", stdout);
}

static void show(struct answer *a, const struct shoal_event *e) {
    bool reasoning = e->channel == SHOAL_REASONING;
    buf_append(reasoning ? &a->thoughts : &a->text, e->text, e->text_len);
    if (a->quiet || (reasoning && !a->reasoning) || e->text_len == 0) return;
    set_dim(a, reasoning);
    fwrite(e->text, 1, e->text_len, stdout);
    fflush(stdout);
}

static void note_takeover(struct answer *a, const struct shoal_event *e) {
    if (!a->notes || a->quiet || a->n_tokens == 0 || e->attempts <= 1) return;
    fprintf(stderr, "%s[%s goes on after %u tokens, attempt %u]%s", cli_colour() ? CLI_DIM : "\n", e->replica, a->n_tokens,
            e->attempts, cli_colour() ? CLI_PLAIN : "\n");
}

static void take_token(struct answer *a, const struct shoal_event *e) {
    int64_t now = clock_ms();
    if (a->n_tokens == 0) a->first_ms = now;
    if (e->attempts != a->attempts && a->n_tokens > 0) a->pause_ms = now - a->last_ms;
    a->attempts = e->attempts;
    a->last_ms = now;
    buf_append(&a->tokens, &e->token, sizeof e->token);
    a->n_tokens++;
    show(a, e);
}

static void take_end(struct answer *a, const struct shoal_event *e) {
    a->end_ms = clock_ms();
    a->attempt = e->attempt;
    a->attempts = e->attempts;
    a->seed = e->seed;
    snprintf(a->replica, sizeof a->replica, "%s", e->replica);
    snprintf(a->router, sizeof a->router, "%s", e->router);
    snprintf(a->request_id, sizeof a->request_id, "%s", e->request_id);
    if (e->kind == SHOAL_FAILED) a->failure = *e->failure;
    if (e->kind == SHOAL_DONE) {
        snprintf(a->finish, sizeof a->finish, "%s", e->finish);
        a->prompt_tokens = e->prompt_tokens;
        a->cached_tokens = e->cached_tokens;
        a->restored_tokens = e->restored_tokens;
    }
    if (!a->quiet) set_dim(a, false);
}

bool answer_on_event(void *ctx, const struct shoal_event *e) {
    struct answer *a = ctx;
    switch (e->kind) {
    case SHOAL_ACCEPTED:
        note_takeover(a, e);
        break;
    case SHOAL_TOKEN:
        take_token(a, e);
        break;
    case SHOAL_TAIL:
        show(a, e);
        break;
    case SHOAL_DONE:
    case SHOAL_FAILED:
        take_end(a, e);
        break;
    }
    return true;
}

void answer_free(struct answer *a) { buf_free(&a->text), buf_free(&a->thoughts), buf_free(&a->tokens); }

char *answer_messages(const char *system, const char *user, size_t user_len) {
    json_t *list = json_array();
    if (system) json_array_append_new(list, json_pack("{s:s,s:s}", "role", "system", "content", system));
    json_t *message = json_pack("{s:s,s:s%}", "role", "user", "content", user, user_len);
    json_array_append_new(list, message);
    char *text = message ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    return text;
}
