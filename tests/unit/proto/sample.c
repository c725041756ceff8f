// Random valid messages. Every field is drawn, also to its extremes, so that a field which the codec drops is seen.
#include "tests/unit/proto/messages.h"

#include "common/base/check.h"
#include "common/base/hash.h"

#include <stdio.h>
#include <string.h>

static uint64_t draw(struct sampler *s) {
    s->state += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(s->state);
}

uint32_t sample_below(struct sampler *s, uint32_t n) { return (uint32_t)(draw(s) >> 32) % n; }

static bool coin(struct sampler *s) { return draw(s) >> 63; }

static void *hold(struct sampler *s, size_t n) {
    void *p = codec_arena_alloc(&s->arena, n + 1);
    CHECK(p != NULL);
    return memset(p, 0, n + 1);
}

static uint32_t number(struct sampler *s, uint32_t max) {
    uint32_t x = (uint32_t)draw(s);
    switch (sample_below(s, 4)) {
    case 0:
        return 0;
    case 1:
        return max;
    case 2:
        return x % 200 <= max ? x % 200 : max;
    default:
        return max == UINT32_MAX ? x : x % (max + 1);
    }
}

static float real(struct sampler *s, float max) { return (float)sample_below(s, 1001) / 1000 * max; }

// Text of n bytes at most, of whole characters of one to four bytes.
static uint32_t text(struct sampler *s, char *out, uint32_t n) {
    static const char *const letters[] = {"a", "Z", " ", "\"", "é", "ß", "漢", "…", "🐟"};
    uint32_t len = 0;
    for (;;) {
        const char *c = letters[sample_below(s, ARRAY_LEN(letters))];
        if (len + strlen(c) > n) return len;
        memcpy(out + len, c, strlen(c));
        len += (uint32_t)strlen(c);
    }
}

static void word(struct sampler *s, char *out, size_t size) {
    memset(out, 0, size);
    if (sample_below(s, 5) > 0) text(s, out, sample_below(s, 8) == 0 ? (uint32_t)size - 1 : sample_below(s, 12));
}
#define WORD(s, field) word(s, field, sizeof(field))

static void stream(struct sampler *s, struct stream_key *key, struct attempt *attempt) {
    for (size_t i = 0; i < sizeof key->request.bytes; i++) key->request.bytes[i] = (uint8_t)draw(s);
    key->choice = 0;
    *attempt = coin(s) ? (struct attempt){number(s, 9), number(s, UINT32_MAX), draw(s)} : (struct attempt){0};
}

static void error(struct sampler *s, struct error *e) {
    e->id = (err_id)(1 + sample_below(s, ERR_COUNT - 1));
    WORD(s, e->param);
    snprintf(e->text, sizeof e->text, "the thing of %u bytes is not what was expected", number(s, 1000));
}

static void records(struct sampler *s, uint32_t count, struct records *out) {
    struct record *all = hold(s, count * sizeof *all);
    int logprobs = (int)sample_below(s, 3);
    bool plain = coin(s);
    for (uint32_t i = 0; i < count; i++) {
        struct record *r = &all[i];
        char *t = hold(s, 64);
        *r = (struct record){
            .token = number(s, UINT32_MAX), .text = t, .text_len = coin(s) ? text(s, t, sample_below(s, 64)) : 0};
        r->channel = plain ? CHANNEL_CONTENT : (uint8_t)sample_below(s, CHANNEL_TOOL + 1);
        r->has_logprob = logprobs == 1 || (logprobs == 2 && coin(s));
        r->logprob = r->has_logprob ? -real(s, 20) : 0;
        r->n_top = plain ? 0 : sample_below(s, TOP_LOGPROBS_MAX + 1);
        struct top_logprob *top = hold(s, r->n_top * sizeof *top);
        for (uint32_t k = 0; k < r->n_top; k++) {
            top[k] = (struct top_logprob){.token = number(s, UINT32_MAX), .logprob = -real(s, 30)};
            top[k].text_len = plain ? 0 : (uint8_t)sample_below(s, TOP_TEXT_MAX + 1);
            for (uint32_t c = 0; c < top[k].text_len; c++) top[k].text[c] = (char)sample_below(s, 256);
        }
        r->top = r->n_top ? top : NULL;
    }
    *out = (struct records){.array = all, .count = count};
}

static void info(struct sampler *s, struct deployment_info *i) {
    WORD(s, i->model), WORD(s, i->deployment), WORD(s, i->fingerprint);
    i->n_aliases = sample_below(s, ALIASES_MAX + 1);
    for (uint32_t k = 0; k < i->n_aliases; k++) WORD(s, i->aliases[k]);
    i->max_context = number(s, UINT32_MAX);
    i->max_seqs = number(s, UINT32_MAX);
    i->bytes_per_token = real(s, 10);
    WORD(s, i->store);
}

static const struct member *members(struct sampler *s, uint32_t *n) {
    *n = coin(s) ? 1 : sample_below(s, MEMBERS_MAX + 1);
    struct member *all = hold(s, *n * sizeof *all);
    for (uint32_t i = 0; i < *n; i++) {
        WORD(s, all[i].name);
        all[i].stage = number(s, 9), all[i].rank = number(s, 9), all[i].pid = number(s, UINT32_MAX);
    }
    return all;
}

static void hello(struct sampler *s, struct msg_hello *m) {
    *m = (struct msg_hello){.protocol_min = 1, .protocol_max = 1 + number(s, 9), .role = (enum role)sample_below(s, 3)};
    m->incarnation = draw(s) | 1;
    WORD(s, m->name), WORD(s, m->region), WORD(s, m->zone), WORD(s, m->http), WORD(s, m->zmq);
    if (m->name[0] == '\0') strcpy(m->name, "w");
    m->pid = number(s, UINT32_MAX);
    m->heartbeat_ms = number(s, 60000);
    m->reply_wanted = coin(s);
    if (coin(s)) info(s, &m->info);
    m->members = members(s, &m->n_members);
}

static void deployment(struct sampler *s, struct deployment_status *d) {
    d->groups = sample_below(s, STATUS_ALL + 1) & ~(uint32_t)STATUS_LIFE;
    if (d->groups & STATUS_INFO) {
        info(s, &d->info);
    } else {
        WORD(s, d->info.model), WORD(s, d->info.deployment);
    }
    if (d->groups & STATUS_LOAD) {
        d->running = number(s, UINT32_MAX), d->queued = number(s, UINT32_MAX);
        d->queued_tokens = draw(s), d->decode_left = draw(s);
        d->blocks_free = number(s, UINT32_MAX), d->blocks_total = number(s, UINT32_MAX);
        d->replicas_ready = number(s, 9), d->replicas_total = number(s, 9), d->generates_seen = draw(s);
    }
    if (d->groups & STATUS_RATES) d->prefill_rate = real(s, 1e9f), d->decode_rate = real(s, 1e5f);
    if (d->groups & STATUS_COUNTERS) d->decoded_total = draw(s), d->prefilled_total = draw(s);
}

static void status(struct sampler *s, struct msg_status *m) {
    *m = (struct msg_status){.seq = draw(s), .full = coin(s), .has_life = coin(s)};
    if (m->has_life) {
        m->state = (enum lifecycle)sample_below(s, LIFECYCLE_FAILED + 1);
        m->progress = real(s, 1);
        m->eta_ms = number(s, UINT32_MAX), m->deadline_ms = number(s, UINT32_MAX);
        WORD(s, m->reason);
    }
    m->n_deployments = coin(s) ? 1 : sample_below(s, 5);
    struct deployment_status *all = hold(s, m->n_deployments * sizeof *all);
    for (uint32_t i = 0; i < m->n_deployments; i++) deployment(s, &all[i]);
    m->deployments = all;
}

static void generate(struct sampler *s, struct msg_generate *m) {
    stream(s, &m->key, &m->attempt);
    WORD(s, m->model), WORD(s, m->deployment), WORD(s, m->fingerprint), WORD(s, m->pin), WORD(s, m->tenant);
    WORD(s, m->restore), WORD(s, m->store);
    m->has_seed = coin(s);
    m->seed = m->has_seed && coin(s) ? draw(s) : 0;
    m->deadline_ms = number(s, UINT32_MAX), m->max_tokens = number(s, OUTPUT_TOKENS_MAX);
    m->prompt_bytes = number(s, UINT32_MAX), m->hops = number(s, HOPS_MAX), m->keep = coin(s);
    m->priority = (int32_t)number(s, 2 * PRIORITY_MAX) - PRIORITY_MAX;
    m->body_len = sample_below(s, 300);
    uint8_t *body = hold(s, m->body_len);
    for (size_t i = 0; i < m->body_len; i++) body[i] = (uint8_t)draw(s);
    m->body = body;
    records(s, coin(s) ? 0 : sample_below(s, 600), &m->records);
}

static void done(struct sampler *s, struct msg_done *m) {
    stream(s, &m->key, &m->attempt);
    m->n_tokens = number(s, OUTPUT_TOKENS_MAX);
    m->finish = (enum finish)sample_below(s, FINISH_CANCELLED + 1);
    if (m->finish == FINISH_ERROR) error(s, &m->error);
    m->usage = (struct usage){number(s, UINT32_MAX), number(s, 9), number(s, 99), number(s, 999), number(s, 9999)};
    m->tail_channel = (uint8_t)sample_below(s, CHANNEL_TOOL + 1);
    char *tail = hold(s, 100);
    m->tail = tail;
    m->tail_len = coin(s) ? text(s, tail, 100) : 0;
    WORD(s, m->replica);
}

static void sync(struct sampler *s, struct msg_sync *m) {
    m->n_entries = sample_below(s, 40);
    struct sync_entry *all = hold(s, m->n_entries * sizeof *all);
    for (uint32_t i = 0; i < m->n_entries; i++) {
        stream(s, &all[i].key, &all[i].attempt);
        all[i].next = number(s, OUTPUT_TOKENS_MAX);
    }
    m->entries = all;
}

static void cluster(struct sampler *s, struct msg_cluster *m) {
    m->n_routers = sample_below(s, 4);
    m->n_replicas = sample_below(s, 6);
    struct router_view *routers = hold(s, m->n_routers * sizeof *routers);
    struct replica_view *replicas = hold(s, m->n_replicas * sizeof *replicas);
    for (uint32_t i = 0; i < m->n_routers; i++) {
        struct router_view *r = &routers[i];
        WORD(s, r->name), WORD(s, r->region), WORD(s, r->http), WORD(s, r->zmq);
        r->pid = number(s, UINT32_MAX);
    }
    for (uint32_t i = 0; i < m->n_replicas; i++) {
        struct replica_view *r = &replicas[i];
        WORD(s, r->name), WORD(s, r->region), WORD(s, r->zone);
        r->state = (enum lifecycle)sample_below(s, LIFECYCLE_FAILED + 1);
        r->suspect = coin(s);
        WORD(s, r->reason);
        r->deadline_ms = number(s, UINT32_MAX);
        deployment(s, &r->status);
        r->members = members(s, &r->n_members);
    }
    m->routers = routers;
    m->replicas = replicas;
}

static void attach(struct sampler *s, struct msg_attach *m) {
    stream(s, &m->key, &m->attempt);
    m->next = number(s, OUTPUT_TOKENS_MAX), m->asks = draw(s);
    m->held = number(s, OUTPUT_TOKENS_MAX), m->prefix = draw(s);
    WORD(s, m->fingerprint), WORD(s, m->model), WORD(s, m->deployment), WORD(s, m->tenant);
    m->deadline_ms = number(s, UINT32_MAX), m->hops = number(s, HOPS_MAX);
}

static void superseded(struct sampler *s, struct msg_superseded *m) {
    stream(s, &m->key, &m->attempt);
    m->by = (struct attempt){number(s, 9), number(s, 9), draw(s)};
}

static void resend(struct sampler *s, struct msg_resend *m) {
    stream(s, &m->key, &m->attempt);
    m->from = number(s, OUTPUT_TOKENS_MAX);
}

void sample_msg(struct sampler *s, enum msg_kind kind, struct msg *out) {
    codec_arena_reset(&s->arena);
    memset(out, 0, sizeof *out);
    out->kind = kind;
    switch (kind) {
    case MSG_HELLO:
        hello(s, &out->hello);
        break;
    case MSG_STATUS:
        status(s, &out->status);
        break;
    case MSG_GENERATE:
        generate(s, &out->generate);
        break;
    case MSG_ACCEPTED:
        stream(s, &out->accepted.key, &out->accepted.attempt);
        out->accepted.prompt_tokens = number(s, UINT32_MAX), out->accepted.max_tokens = number(s, UINT32_MAX);
        WORD(s, out->accepted.replica), WORD(s, out->accepted.fingerprint);
        break;
    case MSG_REJECTED:
        stream(s, &out->rejected.key, &out->rejected.attempt);
        error(s, &out->rejected.error);
        out->rejected.retry_after_ms = number(s, UINT32_MAX), out->rejected.kills = number(s, KILLS_MAX);
        WORD(s, out->rejected.replica);
        break;
    case MSG_TOKENS:
        stream(s, &out->tokens.key, &out->tokens.attempt);
        records(s, 1 + sample_below(s, RECORDS_PER_FRAME), &out->tokens.records);
        out->tokens.offset = number(s, OUTPUT_TOKENS_MAX - out->tokens.records.count);
        break;
    case MSG_ACK:
        stream(s, &out->ack.key, &out->ack.attempt);
        out->ack.next = number(s, OUTPUT_TOKENS_MAX), out->ack.done = coin(s);
        break;
    case MSG_RESEND:
        resend(s, &out->resend);
        break;
    case MSG_DONE:
        done(s, &out->done);
        break;
    case MSG_SYNC:
        sync(s, &out->sync);
        break;
    case MSG_UNKNOWN:
        stream(s, &out->unknown.key, &out->unknown.attempt);
        break;
    case MSG_SUPERSEDED:
        superseded(s, &out->superseded);
        break;
    case MSG_CANCEL:
        stream(s, &out->cancel.key, &out->cancel.attempt);
        break;
    case MSG_ATTACH:
        attach(s, &out->attach);
        break;
    case MSG_CLUSTER:
        cluster(s, &out->cluster);
        break;
    case MSG_MOVE_OFFER:
        stream(s, &out->move_offer.key, &out->move_offer.attempt);
        WORD(s, out->move_offer.handle), WORD(s, out->move_offer.store);
        if (out->move_offer.store[0] == '\0') out->move_offer.handle[0] = '\0';
        out->move_offer.n_tokens = number(s, OUTPUT_TOKENS_MAX), out->move_offer.bytes = draw(s);
        out->move_offer.lease_ms = number(s, UINT32_MAX);
        break;
    case MSG_MOVE_COMMIT:
        stream(s, &out->move_commit.key, &out->move_commit.attempt);
        out->move_commit.by = coin(s) ? (struct attempt){number(s, 9), number(s, 9), draw(s)} : (struct attempt){0};
        break;
    case MSG_NOTICE:
        WORD(s, out->notice.name);
        if (out->notice.name[0] == '\0') strcpy(out->notice.name, "w");
        out->notice.deadline_ms = number(s, UINT32_MAX);
        break;
    case MSG_QUERY:
    case MSG_NONE:
    case MSG_KIND_COUNT:
        break;
    }
}

static const char *long_text(struct sampler *s, uint32_t n) {
    char *t = hold(s, n);
    text(s, t, n);
    return t;
}

static void sampling(struct sampler *s, struct sampling *p) {
    p->has_temperature = coin(s), p->temperature = p->has_temperature ? real(s, 2) : 0;
    p->has_top_p = coin(s), p->top_p = p->has_top_p ? 0.01f + real(s, 0.9f) : 0;
    p->has_top_k = coin(s), p->top_k = p->has_top_k ? (int32_t)number(s, INT32_MAX) : 0;
    p->has_min_p = coin(s), p->min_p = p->has_min_p ? real(s, 1) : 0;
    p->has_typical_p = coin(s), p->typical_p = p->has_typical_p ? 0.01f + real(s, 0.9f) : 0;
    p->has_repetition_penalty = coin(s), p->repetition_penalty = p->has_repetition_penalty ? 0.1f + real(s, 9) : 0;
    p->presence_penalty = real(s, 200) - 100, p->frequency_penalty = real(s, 2) - 1;
}

static void shape(struct sampler *s, struct prompt *p) {
    const char **words = hold(s, BAD_WORDS_MAX * sizeof *words);
    p->n_bad_words = coin(s) ? 0 : sample_below(s, BAD_WORDS_MAX + 1);
    for (uint32_t i = 0; i < p->n_bad_words; i++) words[i] = long_text(s, 4 + sample_below(s, STOP_STRING_BYTES_MAX - 3));
    p->bad_words = words;
    p->tool_choice = (enum tool_choice)sample_below(s, p->tools_json ? TOOL_CHOICE_NAMED + 1 : TOOL_CHOICE_NONE + 1);
    p->tool_name = p->tool_choice == TOOL_CHOICE_NAMED ? long_text(s, TOOL_NAME_BYTES_MAX) : NULL;
    p->response_format = (enum response_format)sample_below(s, RESPONSE_REGEX + 1);
    p->response_schema = p->response_format == RESPONSE_JSON_SCHEMA ? long_text(s, 300) : NULL;
    p->response_regex = p->response_format == RESPONSE_REGEX ? long_text(s, 30) : NULL;
    p->one_tool_call = coin(s), p->response_strict = coin(s), p->no_generation_prompt = coin(s);
    p->continue_final_message = coin(s), p->no_special_tokens = coin(s), p->echo = coin(s);
    p->suffix = coin(s) ? long_text(s, 100) : NULL;
    p->task = (enum prompt_task)sample_below(s, TASK_EMBED + 1);
}

void sample_prompt(struct sampler *s, struct prompt *p) {
    codec_arena_reset(&s->arena);
    memset(p, 0, sizeof *p);
    p->kind = (enum prompt_kind)sample_below(s, PROMPT_TOKENS + 1);
    p->messages_json = p->kind == PROMPT_CHAT ? long_text(s, 400) : "";
    p->tools_json = coin(s) ? long_text(s, 50) : NULL;
    p->template_kwargs_json = coin(s) ? long_text(s, 20) : NULL;
    p->text = p->kind == PROMPT_TEXT ? long_text(s, sample_below(s, 2000)) : "";
    p->text_len = strlen(p->text);
    p->n_tokens = p->kind == PROMPT_TOKENS ? sample_below(s, 500) : 0;
    uint32_t *tokens = hold(s, p->n_tokens * sizeof *tokens), *stop_tokens = hold(s, STOP_TOKENS_MAX * sizeof *stop_tokens);
    for (uint32_t i = 0; i < p->n_tokens; i++) tokens[i] = number(s, UINT32_MAX);
    p->tokens = tokens;
    sampling(s, &p->sampling);
    p->min_tokens = number(s, OUTPUT_TOKENS_MAX);
    p->ignore_eos = coin(s), p->logprobs = coin(s), p->include_stop = coin(s), p->keep_special_tokens = coin(s);
    p->n_choices = coin(s) ? 0 : sample_below(s, CHOICES_MAX + 1);
    p->top_logprobs = sample_below(s, TOP_LOGPROBS_MAX + 1);
    p->n_stop = sample_below(s, STOP_STRINGS_MAX + 1);
    const char **stop = hold(s, p->n_stop * sizeof *stop);
    for (uint32_t i = 0; i < p->n_stop; i++) stop[i] = long_text(s, 4 + sample_below(s, STOP_STRING_BYTES_MAX - 3));
    p->stop = stop;
    p->n_stop_tokens = sample_below(s, STOP_TOKENS_MAX + 1);
    for (uint32_t i = 0; i < p->n_stop_tokens; i++) stop_tokens[i] = number(s, UINT32_MAX);
    p->stop_tokens = stop_tokens;
    p->n_allowed = coin(s) ? 0 : sample_below(s, TOKEN_LIST_MAX + 1), p->n_banned = sample_below(s, TOKEN_LIST_MAX + 1);
    uint32_t *lists = hold(s, 2 * TOKEN_LIST_MAX * sizeof *lists);
    for (uint32_t i = 0; i < 2 * TOKEN_LIST_MAX; i++) lists[i] = number(s, UINT32_MAX);
    p->allowed = lists, p->banned = lists + TOKEN_LIST_MAX;
    p->n_logit_bias = coin(s) ? 0 : sample_below(s, LOGIT_BIAS_MAX + 1);
    struct logit_bias *bias = hold(s, p->n_logit_bias * sizeof *bias);
    for (uint32_t i = 0; i < p->n_logit_bias; i++) bias[i] = (struct logit_bias){number(s, UINT32_MAX), real(s, 200) - 100};
    p->logit_bias = bias;
    shape(s, p);
}

void sample_free(struct sampler *s) { codec_arena_free(&s->arena); }
