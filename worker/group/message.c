#include "worker/group/message.h"

#include "common/base/check.h"
#include "group.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *group_kind_name(enum group_kind kind) {
    static const char *const names[] = {"none",      "join",       "welcome",   "refused", "ready",  "beat",
                                        "slot_open", "slot_close", "plan",      "hidden",  "tokens", "result",
                                        "save",      "load",       "part_done", "notice",  "leave"};
    return (size_t)kind < ARRAY_LEN(names) ? names[kind] : "unknown";
}

void group_msg_free(struct group_msg *m) {
    if (m == NULL) return;
    for (size_t i = 0; i < ARRAY_LEN(m->owned); i++) free(m->owned[i]);
    free(m);
}

// ---- decoding ----

static err_id take_text(const ProtobufCBinaryData *from, char *out, size_t size, const char *field, struct error *e) {
    bool plain = from->len < size;
    for (size_t i = 0; plain && i < from->len; i++) plain = from->data[i] >= ' ' && from->data[i] != 0x7f;
    if (!plain) return error_set(e, ERR_PROTOCOL, "%s is too long or has control characters", field);
    if (from->len > 0) memcpy(out, from->data, from->len);
    out[from->len] = '\0';
    return ERR_NONE;
}
#define TEXT(from, out, field) TRY(take_text(&(from)->field, (out)->field, sizeof(out)->field, #field, e))

static err_id take_join(const ShoalGroup__Join *p, struct group_join *j, struct error *e) {
    struct group_identity *w = &j->who;
    TEXT(p, w, group);
    TEXT(p, w, build);
    TEXT(p, w, weights);
    TEXT(p, j, name);
    TEXT(p, j, address);
    w->stage = p->stage;
    w->stages = p->stages;
    w->plan_abi = p->plan_abi;
    w->layer_first = p->layer_first;
    w->layer_end = p->layer_end;
    w->layers = p->layers;
    w->hidden = p->hidden;
    w->vocab = p->vocab;
    j->incarnation = p->incarnation;
    j->pid = p->pid;
    j->epoch = p->epoch;
    return p->incarnation != 0 ? ERR_NONE : error_set(e, ERR_PROTOCOL, "a Join needs an incarnation");
}

static err_id take_welcome(const ShoalGroup__Welcome *p, struct group_welcome *w, struct error *e) {
    TEXT(p, w, next);
    w->epoch = p->epoch;
    w->limits = (struct group_limits){p->slots, p->rows, p->batch_tokens, p->context, p->block_tokens, p->blocks};
    w->beat_ms = p->beat_ms;
    w->dead_ms = p->dead_ms;
    const struct group_limits *l = &w->limits;
    bool sane = l->slots > 0 && l->rows > 0 && l->batch_tokens > 0 && l->context > 0 && l->block_tokens > 0 && l->blocks > 0;
    if (sane && p->beat_ms > 0 && p->dead_ms > p->beat_ms) return ERR_NONE;
    return error_set(e, ERR_PROTOCOL, "a Welcome without limits or times");
}

static err_id take_sampling(const ShoalGroup__Sampling *p, struct sampling_params *s, struct error *e) {
    if (p == NULL || p->n_eos > SAMPLING_EOS_MAX || p->n_bias > SAMPLING_BIAS_MAX || p->n_bias != p->n_bias_tokens ||
        p->n_allowed > SAMPLING_LIST_MAX || p->n_banned > SAMPLING_LIST_MAX || p->logprobs > SAMPLING_TOP_LOGPROBS_MAX)
        return error_set(e, ERR_PROTOCOL, "a SlotOpen with no sampling, or with too much in it");
    *s = (struct sampling_params){.temperature = p->temperature, .top_k = p->top_k, .top_p = p->top_p, .min_p = p->min_p};
    s->presence_penalty = p->presence_penalty;
    s->frequency_penalty = p->frequency_penalty;
    s->repetition_penalty = p->repetition_penalty;
    s->seed = p->seed;
    s->choice = p->choice;
    s->logprobs = p->logprobs;
    s->want_logprob = p->want_logprob;
    s->min_tokens = p->min_tokens;
    s->n_eos = (uint32_t)p->n_eos;
    for (uint32_t i = 0; i < s->n_eos; i++) s->eos[i] = p->eos[i];
    s->typical_p = p->typical_p;
    s->n_allowed = (uint32_t)p->n_allowed;
    s->n_banned = (uint32_t)p->n_banned;
    for (uint32_t i = 0; i < s->n_allowed; i++) s->allowed[i] = p->allowed[i];
    for (uint32_t i = 0; i < s->n_banned; i++) s->banned[i] = p->banned[i];
    s->n_bias = (uint32_t)p->n_bias;
    for (uint32_t i = 0; i < s->n_bias; i++) s->bias[i] = (struct sampling_bias){p->bias_tokens[i], p->bias[i]};
    return ERR_NONE;
}

// A copy that the message owns. protobuf-c's own would go with its message.
static void *keep(struct group_msg *m, const void *bytes, size_t n) {
    if (n == 0) return NULL;
    void *copy = aligned_alloc(64, (n + 63) / 64 * 64);
    CHECK(copy != NULL);
    memcpy(copy, bytes, n);
    return m->owned[0] = copy;
}

static err_id take_slot_open(const ShoalGroup__SlotOpen *p, struct group_msg *m, struct error *e) {
    TRY(take_sampling(p->sampling, &m->slot_open.params.sampling, e));
    m->slot_open.epoch = p->epoch;
    m->slot_open.slot = p->slot;
    m->slot_open.params.n_tokens = (uint32_t)p->n_tokens;
    m->slot_open.params.n_prompt = p->n_prompt;
    m->slot_open.params.tokens = keep(m, p->tokens, p->n_tokens * sizeof *p->tokens);
    return ERR_NONE;
}

static err_id take_result(const ShoalGroup__Result *p, struct group_msg *m, struct error *e) {
    size_t n = p->n_n_tokens, tops = 0;
    bool whole = p->n_numeric_error == n && p->n_token == n && p->n_logprob == n && p->n_n_top == n;
    for (size_t i = 0; whole && i < n; i++) {
        whole = p->n_top[i] <= SAMPLING_TOP_LOGPROBS_MAX && p->n_tokens[i] <= 1;
        tops += p->n_top[i];
    }
    if (!whole || n > PLAN_SLOTS_MAX || tops != p->n_top_token || tops != p->n_top_logprob)
        return error_set(e, ERR_PROTOCOL, "a Result whose columns don't fit together");
    struct group_result_row *rows = m->owned[0] = xcalloc(n + 1, sizeof *rows);
    for (size_t i = 0, at = 0; i < n; i++) {
        struct group_result_row *r = &rows[i];
        r->n_tokens = p->n_tokens[i];
        r->numeric_error = p->numeric_error[i];
        r->token = (struct engine_token){.token = p->token[i], .logprob = p->logprob[i], .n_top = p->n_top[i]};
        for (uint32_t k = 0; k < r->token.n_top; k++, at++)
            r->token.top[k] = (struct engine_top){p->top_token[at], p->top_logprob[at]};
    }
    m->result.epoch = p->epoch;
    m->result.step = p->step;
    m->result.rows = rows;
    m->result.n = (uint32_t)n;
    return ERR_NONE;
}

static err_id take_hidden(const ShoalGroup__Hidden *p, struct group_msg *m, struct error *e) {
    if (p->states.len % sizeof(float) != 0) return error_set(e, ERR_PROTOCOL, "hidden states that are not whole floats");
    m->hidden.epoch = p->epoch;
    m->hidden.step = p->step;
    m->hidden.floats = p->states.len / sizeof(float);
    m->hidden.states = keep(m, p->states.data, p->states.len);
    return ERR_NONE;
}

static err_id take_part(const ShoalGroup__Part *p, struct group_part *part, struct error *e) {
    TEXT(p, part, handle);
    part->epoch = p->epoch;
    part->ticket = p->ticket;
    part->slot = p->slot;
    part->count = p->count;
    part->key.choice = p->choice;
    part->shard.hash = p->hash;
    if (p->request.len != sizeof part->key.request.bytes || p->count == 0)
        return error_set(e, ERR_PROTOCOL, "a part of nothing, or of no request");
    memcpy(part->key.request.bytes, p->request.data, p->request.len);
    return ERR_NONE;
}

static err_id take_part_done(const ShoalGroup__PartDone *p, struct group_part_done *done, struct error *e) {
    TEXT(p, done, failure);
    done->epoch = p->epoch;
    done->ticket = p->ticket;
    done->hash = p->hash;
    return ERR_NONE;
}

static err_id take_small(const ShoalGroup__Frame *f, struct group_msg *m, struct error *e) {
    switch (f->body_case) {
    case SHOAL_GROUP__FRAME__BODY_REFUSED:
        m->refused.final = f->refused->final;
        return take_text(&f->refused->text, m->refused.text, sizeof m->refused.text, "text", e);
    case SHOAL_GROUP__FRAME__BODY_READY:
        m->ready.epoch = f->ready->epoch;
        m->ready.kv_bytes_per_token = f->ready->kv_bytes_per_token;
        TEXT(f->ready, &m->ready, store);
        TEXT(f->ready, &m->ready, fingerprint);
        return ERR_NONE;
    case SHOAL_GROUP__FRAME__BODY_BEAT:
        m->beat =
            (struct group_beat){f->beat->epoch, f->beat->progress, f->beat->busy_us, f->beat->loads, f->beat->weights_bytes};
        return ERR_NONE;
    case SHOAL_GROUP__FRAME__BODY_SLOT_CLOSE:
        m->slot_close.epoch = f->slot_close->epoch;
        m->slot_close.slot = f->slot_close->slot;
        return ERR_NONE;
    case SHOAL_GROUP__FRAME__BODY_PLAN:
        m->plan.len = f->plan->plan.len;
        m->plan.bytes = keep(m, f->plan->plan.data, f->plan->plan.len);
        return m->plan.len >= sizeof(struct plan_head) ? ERR_NONE : error_set(e, ERR_PROTOCOL, "a Plan without a head");
    case SHOAL_GROUP__FRAME__BODY_TOKENS:
        m->tokens.epoch = f->tokens->epoch;
        m->tokens.step = f->tokens->step;
        m->tokens.n = (uint32_t)f->tokens->n_tokens;
        m->tokens.tokens = keep(m, f->tokens->tokens, f->tokens->n_tokens * sizeof(uint32_t));
        return ERR_NONE;
    case SHOAL_GROUP__FRAME__BODY_NOTICE:
        m->notice.epoch = f->notice->epoch;
        m->notice.deadline_ms = f->notice->deadline_ms;
        return ERR_NONE;
    case SHOAL_GROUP__FRAME__BODY_LEAVE:
        m->leave.epoch = f->leave->epoch;
        return ERR_NONE;
    default:
        return error_set(e, ERR_PROTOCOL, "a frame of an unknown kind");
    }
}

static err_id take(const ShoalGroup__Frame *f, struct group_msg *m, struct error *e) {
    if (f->version != GROUP_PROTOCOL)
        return error_set(e, ERR_PROTOCOL, "the other side speaks version %u of the group protocol, this is version %d",
                         f->version, GROUP_PROTOCOL);
    m->kind = (enum group_kind)(f->body_case >= SHOAL_GROUP__FRAME__BODY_JOIN ? f->body_case - 1 : GROUP_NONE);
    switch (f->body_case) {
    case SHOAL_GROUP__FRAME__BODY_JOIN:
        return take_join(f->join, &m->join, e);
    case SHOAL_GROUP__FRAME__BODY_WELCOME:
        return take_welcome(f->welcome, &m->welcome, e);
    case SHOAL_GROUP__FRAME__BODY_SLOT_OPEN:
        return take_slot_open(f->slot_open, m, e);
    case SHOAL_GROUP__FRAME__BODY_HIDDEN:
        return take_hidden(f->hidden, m, e);
    case SHOAL_GROUP__FRAME__BODY_RESULT:
        return take_result(f->result, m, e);
    case SHOAL_GROUP__FRAME__BODY_SAVE:
        return take_part(f->save, &m->part, e);
    case SHOAL_GROUP__FRAME__BODY_LOAD:
        return take_part(f->load, &m->part, e);
    case SHOAL_GROUP__FRAME__BODY_PART_DONE:
        return take_part_done(f->part_done, &m->part_done, e);
    default:
        return take_small(f, m, e);
    }
}

_Static_assert(SHOAL_GROUP__FRAME__BODY_JOIN - 1 == GROUP_JOIN && SHOAL_GROUP__FRAME__BODY_LEAVE - 1 == GROUP_LEAVE,
               "kinds are in the order of the frame's numbers");

err_id group_decode(const void *frame, size_t len, struct group_msg **out, struct error *e) {
    if (len > GROUP_FRAME_MAX) return error_set(e, ERR_TOO_LARGE, "a frame of %zu bytes", len);
    ShoalGroup__Frame *f = shoal_group__frame__unpack(NULL, len, frame);
    if (f == NULL) return error_set(e, ERR_PROTOCOL, "%zu bytes that are no frame", len);
    struct group_msg *m = xcalloc(1, sizeof *m);
    err_id id = take(f, m, e);
    shoal_group__frame__free_unpacked(f, NULL);
    if (id != ERR_NONE) {
        group_msg_free(m);
        return id;
    }
    *out = m;
    return ERR_NONE;
}
