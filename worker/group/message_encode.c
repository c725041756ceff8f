// Plain structs to frames. Generated structs borrow what the message points to; only a Result's columns are built.
#include "common/base/check.h"
#include "group.pb-c.h"
#include "worker/group/message.h"

#include <stdlib.h>
#include <string.h>

static ProtobufCBinaryData text(const char *s) { return (ProtobufCBinaryData){.len = strlen(s), .data = (uint8_t *)s}; }

static void pack(ShoalGroup__Frame__BodyCase which, const void *body, struct buf *out) {
    ShoalGroup__Frame f = SHOAL_GROUP__FRAME__INIT;
    f.version = GROUP_PROTOCOL;
    f.body_case = which;
    f.join = (ShoalGroup__Join *)body; // all members of the union are pointers
    size_t size = shoal_group__frame__get_packed_size(&f);
    shoal_group__frame__pack(&f, (uint8_t *)buf_reserve(out, size));
    out->len += size;
}

static void put_join(const struct group_join *j, struct buf *out) {
    ShoalGroup__Join p = SHOAL_GROUP__JOIN__INIT;
    const struct group_identity *w = &j->who;
    p.group = text(w->group);
    p.stage = w->stage;
    p.stages = w->stages;
    p.build = text(w->build);
    p.plan_abi = w->plan_abi;
    p.weights = text(w->weights);
    p.layer_first = w->layer_first;
    p.layer_end = w->layer_end;
    p.layers = w->layers;
    p.incarnation = j->incarnation;
    p.name = text(j->name);
    p.pid = j->pid;
    p.address = text(j->address);
    p.epoch = j->epoch;
    p.hidden = w->hidden;
    p.vocab = w->vocab;
    pack(SHOAL_GROUP__FRAME__BODY_JOIN, &p, out);
}

static void put_welcome(const struct group_welcome *w, struct buf *out) {
    ShoalGroup__Welcome p = SHOAL_GROUP__WELCOME__INIT;
    p.epoch = w->epoch;
    p.slots = w->limits.slots;
    p.rows = w->limits.rows;
    p.batch_tokens = w->limits.batch_tokens;
    p.context = w->limits.context;
    p.block_tokens = w->limits.block_tokens;
    p.blocks = w->limits.blocks;
    p.next = text(w->next);
    p.beat_ms = w->beat_ms;
    p.dead_ms = w->dead_ms;
    pack(SHOAL_GROUP__FRAME__BODY_WELCOME, &p, out);
}

static void put_slot_open(const struct group_msg *m, struct buf *out) {
    const struct sampling_params *s = &m->slot_open.params.sampling;
    uint32_t bias_tokens[SAMPLING_BIAS_MAX];
    float bias[SAMPLING_BIAS_MAX];
    for (uint32_t i = 0; i < s->n_bias; i++) bias_tokens[i] = s->bias[i].token, bias[i] = s->bias[i].bias;
    ShoalGroup__Sampling q = SHOAL_GROUP__SAMPLING__INIT;
    q.temperature = s->temperature;
    q.top_k = s->top_k;
    q.top_p = s->top_p;
    q.min_p = s->min_p;
    q.presence_penalty = s->presence_penalty;
    q.frequency_penalty = s->frequency_penalty;
    q.repetition_penalty = s->repetition_penalty;
    q.seed = s->seed;
    q.choice = s->choice;
    q.logprobs = s->logprobs;
    q.want_logprob = s->want_logprob;
    q.min_tokens = s->min_tokens;
    q.n_eos = s->n_eos;
    q.eos = (uint32_t *)s->eos;
    q.n_bias = q.n_bias_tokens = s->n_bias;
    q.bias = bias;
    q.bias_tokens = bias_tokens;
    q.typical_p = s->typical_p;
    q.n_allowed = s->n_allowed;
    q.allowed = (uint32_t *)s->allowed;
    q.n_banned = s->n_banned;
    q.banned = (uint32_t *)s->banned;
    ShoalGroup__SlotOpen p = SHOAL_GROUP__SLOT_OPEN__INIT;
    p.epoch = m->slot_open.epoch;
    p.slot = m->slot_open.slot;
    p.n_prompt = m->slot_open.params.n_prompt;
    p.n_tokens = m->slot_open.params.n_tokens;
    p.tokens = (uint32_t *)m->slot_open.params.tokens;
    p.sampling = &q;
    pack(SHOAL_GROUP__FRAME__BODY_SLOT_OPEN, &p, out);
}

static void put_hidden(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Hidden p = SHOAL_GROUP__HIDDEN__INIT;
    p.epoch = m->hidden.epoch;
    p.step = m->hidden.step;
    p.states = (ProtobufCBinaryData){.len = m->hidden.floats * sizeof(float), .data = (uint8_t *)m->hidden.states};
    pack(SHOAL_GROUP__FRAME__BODY_HIDDEN, &p, out);
}

static void put_result(const struct group_msg *m, struct buf *out) {
    uint32_t n = m->result.n, tops = 0;
    for (uint32_t i = 0; i < n; i++) tops += m->result.rows[i].token.n_top;
    uint32_t *numbers = xcalloc(3 * (size_t)n + tops + 1, sizeof *numbers);
    float *floats = xcalloc((size_t)n + tops + 1, sizeof *floats);
    protobuf_c_boolean *flags = xcalloc((size_t)n + 1, sizeof *flags);
    ShoalGroup__Result p = SHOAL_GROUP__RESULT__INIT;
    p.epoch = m->result.epoch;
    p.step = m->result.step;
    p.n_n_tokens = p.n_numeric_error = p.n_token = p.n_logprob = p.n_n_top = n;
    p.n_tokens = numbers;
    p.token = numbers + n;
    p.n_top = numbers + 2 * (size_t)n;
    p.top_token = numbers + 3 * (size_t)n;
    p.logprob = floats;
    p.top_logprob = floats + n;
    p.numeric_error = flags;
    for (uint32_t i = 0; i < n; i++) {
        const struct group_result_row *r = &m->result.rows[i];
        p.n_tokens[i] = r->n_tokens;
        p.numeric_error[i] = r->numeric_error;
        p.token[i] = r->token.token;
        p.logprob[i] = r->token.logprob;
        p.n_top[i] = r->token.n_top;
        for (uint32_t k = 0; k < r->token.n_top; k++) {
            p.top_token[p.n_top_token++] = r->token.top[k].token;
            p.top_logprob[p.n_top_logprob++] = r->token.top[k].logprob;
        }
    }
    pack(SHOAL_GROUP__FRAME__BODY_RESULT, &p, out);
    free(numbers);
    free(floats);
    free(flags);
}

static void put_refused(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Refused p = SHOAL_GROUP__REFUSED__INIT;
    p.text = text(m->refused.text);
    p.final = m->refused.final;
    pack(SHOAL_GROUP__FRAME__BODY_REFUSED, &p, out);
}

static void put_ready(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Ready p = SHOAL_GROUP__READY__INIT;
    p.epoch = m->ready.epoch;
    p.fingerprint = text(m->ready.fingerprint);
    p.kv_bytes_per_token = m->ready.kv_bytes_per_token;
    p.store = text(m->ready.store);
    pack(SHOAL_GROUP__FRAME__BODY_READY, &p, out);
}

static void put_beat(const struct group_beat *b, struct buf *out) {
    ShoalGroup__Beat p = SHOAL_GROUP__BEAT__INIT;
    p.epoch = b->epoch;
    p.progress = b->progress;
    p.busy_us = b->busy_us;
    p.loads = b->loads;
    p.weights_bytes = b->weights_bytes;
    pack(SHOAL_GROUP__FRAME__BODY_BEAT, &p, out);
}

static void put_slot_close(const struct group_msg *m, struct buf *out) {
    ShoalGroup__SlotClose p = SHOAL_GROUP__SLOT_CLOSE__INIT;
    p.epoch = m->slot_close.epoch;
    p.slot = m->slot_close.slot;
    pack(SHOAL_GROUP__FRAME__BODY_SLOT_CLOSE, &p, out);
}

static void put_plan(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Plan p = SHOAL_GROUP__PLAN__INIT;
    p.plan = (ProtobufCBinaryData){.len = m->plan.len, .data = (uint8_t *)m->plan.bytes};
    pack(SHOAL_GROUP__FRAME__BODY_PLAN, &p, out);
}

static void put_tokens(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Tokens p = SHOAL_GROUP__TOKENS__INIT;
    p.epoch = m->tokens.epoch;
    p.step = m->tokens.step;
    p.n_tokens = m->tokens.n;
    p.tokens = (uint32_t *)m->tokens.tokens;
    pack(SHOAL_GROUP__FRAME__BODY_TOKENS, &p, out);
}

static void put_part(const struct group_part *part, ShoalGroup__Frame__BodyCase which, struct buf *out) {
    ShoalGroup__Part p = SHOAL_GROUP__PART__INIT;
    p.epoch = part->epoch;
    p.ticket = part->ticket;
    p.slot = part->slot;
    p.count = part->count;
    p.handle = text(part->handle);
    p.request = (ProtobufCBinaryData){.len = sizeof part->key.request.bytes, .data = (uint8_t *)part->key.request.bytes};
    p.choice = part->key.choice;
    p.hash = part->shard.hash;
    pack(which, &p, out);
}

static void put_part_done(const struct group_part_done *done, struct buf *out) {
    ShoalGroup__PartDone p = SHOAL_GROUP__PART_DONE__INIT;
    p.epoch = done->epoch;
    p.ticket = done->ticket;
    p.hash = done->hash;
    p.failure = text(done->failure);
    pack(SHOAL_GROUP__FRAME__BODY_PART_DONE, &p, out);
}

static void put_notice(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Notice p = SHOAL_GROUP__NOTICE__INIT;
    p.epoch = m->notice.epoch;
    p.deadline_ms = m->notice.deadline_ms;
    pack(SHOAL_GROUP__FRAME__BODY_NOTICE, &p, out);
}

static void put_leave(const struct group_msg *m, struct buf *out) {
    ShoalGroup__Leave p = SHOAL_GROUP__LEAVE__INIT;
    p.epoch = m->leave.epoch;
    pack(SHOAL_GROUP__FRAME__BODY_LEAVE, &p, out);
}

void group_encode(const struct group_msg *m, struct buf *out) {
    switch (m->kind) {
    case GROUP_JOIN:
        return put_join(&m->join, out);
    case GROUP_WELCOME:
        return put_welcome(&m->welcome, out);
    case GROUP_REFUSED:
        return put_refused(m, out);
    case GROUP_READY:
        return put_ready(m, out);
    case GROUP_BEAT:
        return put_beat(&m->beat, out);
    case GROUP_SLOT_OPEN:
        return put_slot_open(m, out);
    case GROUP_SLOT_CLOSE:
        return put_slot_close(m, out);
    case GROUP_PLAN:
        return put_plan(m, out);
    case GROUP_HIDDEN:
        return put_hidden(m, out);
    case GROUP_TOKENS:
        return put_tokens(m, out);
    case GROUP_RESULT:
        return put_result(m, out);
    case GROUP_SAVE:
        return put_part(&m->part, SHOAL_GROUP__FRAME__BODY_SAVE, out);
    case GROUP_LOAD:
        return put_part(&m->part, SHOAL_GROUP__FRAME__BODY_LOAD, out);
    case GROUP_PART_DONE:
        return put_part_done(&m->part_done, out);
    case GROUP_NOTICE:
        return put_notice(m, out);
    case GROUP_LEAVE:
        return put_leave(m, out);
    case GROUP_NONE:
        break;
    }
    CHECK(!"a message of a kind");
}
