// Plain structs to frames: the messages of a stream's life, and the envelope. Generated structs are built in an arena that
// starts on the stack, then packed in one go.
#include "proto/codec_internal.h"

#include "common/base/check.h"

#include <string.h>

enum { STACK_BYTES = 8 << 10 };

void *enc_alloc(struct codec_arena *a, size_t n) {
    void *p = codec_arena_alloc(a, n);
    CHECK(p != NULL);
    return p;
}

Shoal__Stream *enc_stream(struct codec_arena *a, const struct stream_key *key) {
    Shoal__Stream *out = enc_alloc(a, sizeof *out);
    shoal__stream__init(out);
    out->request = (ProtobufCBinaryData){.len = sizeof key->request.bytes, .data = (uint8_t *)key->request.bytes};
    out->choice = key->choice;
    return out;
}

Shoal__Attempt *enc_attempt(struct codec_arena *a, const struct attempt *attempt) {
    if (attempt_is_none(attempt)) return NULL;
    Shoal__Attempt *out = enc_alloc(a, sizeof *out);
    shoal__attempt__init(out);
    out->takeover = attempt->takeover;
    out->counter = attempt->counter;
    out->router = attempt->router;
    return out;
}

// The sentence is ours, but may quote a peer, or may have been cut within a character.
static Shoal__Error *enc_error(struct codec_arena *a, const struct error *error) {
    Shoal__Error *out = enc_alloc(a, sizeof *out);
    shoal__error__init(out);
    const struct error_info *info = error_info(error->id);
    out->id = error->id;
    out->status = enc_text(info->grpc);
    out->http = (uint32_t)info->http_status;
    out->retryable = info->retryable;
    char *text = enc_alloc(a, ERROR_TEXT_MAX), *param = enc_alloc(a, ERROR_PARAM_MAX);
    ProtobufCBinaryData raw_text = enc_text(error_text(error)), raw_param = enc_text(error->param);
    dec_sentence(&raw_text, text, ERROR_TEXT_MAX);
    dec_sentence(&raw_param, param, ERROR_PARAM_MAX);
    out->text = enc_text(text);
    out->param = enc_text(param);
    return out;
}

// Begins the generated message of a stream: every such message has the two fields.
#define BEGIN(Type, type, m)                                                                                                \
    Shoal__##Type *out = enc_alloc(a, sizeof *out);                                                                         \
    shoal__##type##__init(out);                                                                                             \
    out->stream = enc_stream(a, &(m)->key);                                                                                 \
    out->attempt = enc_attempt(a, &(m)->attempt)

static Shoal__Generate *enc_generate(struct codec_arena *a, const struct msg_generate *m) {
    BEGIN(Generate, generate, m);
    out->model = enc_text(m->model);
    out->deployment = enc_text(m->deployment);
    out->fingerprint = enc_text(m->fingerprint);
    out->pin = enc_text(m->pin);
    out->tenant = enc_text(m->tenant);
    if (m->has_seed) {
        out->seed_given_case = SHOAL__GENERATE__SEED_GIVEN_SEED;
        out->seed = m->seed;
    }
    out->deadline_ms = m->deadline_ms;
    out->max_tokens = m->max_tokens;
    out->prompt_bytes = m->prompt_bytes;
    out->hops = m->hops;
    out->keep = m->keep;
    out->body = (ProtobufCBinaryData){.len = m->body_len, .data = (uint8_t *)m->body};
    out->records = enc_records(a, &m->records);
    out->restore = enc_text(m->restore);
    out->store = enc_text(m->store);
    out->priority = m->priority;
    return out;
}

static Shoal__Accepted *enc_accepted(struct codec_arena *a, const struct msg_accepted *m) {
    BEGIN(Accepted, accepted, m);
    out->prompt_tokens = m->prompt_tokens;
    out->max_tokens = m->max_tokens;
    out->replica = enc_text(m->replica);
    out->fingerprint = enc_text(m->fingerprint);
    return out;
}

static Shoal__Rejected *enc_rejected(struct codec_arena *a, const struct msg_rejected *m) {
    BEGIN(Rejected, rejected, m);
    out->error = enc_error(a, &m->error);
    out->retry_after_ms = m->retry_after_ms;
    out->replica = enc_text(m->replica);
    out->kills = m->kills;
    return out;
}

static Shoal__Tokens *enc_tokens(struct codec_arena *a, const struct msg_tokens *m) {
    BEGIN(Tokens, tokens, m);
    out->offset = m->offset;
    out->records = enc_records(a, &m->records);
    return out;
}

static Shoal__Ack *enc_ack(struct codec_arena *a, const struct msg_ack *m) {
    BEGIN(Ack, ack, m);
    out->next = m->next;
    out->done = m->done;
    return out;
}

static Shoal__Resend *enc_resend(struct codec_arena *a, const struct msg_resend *m) {
    BEGIN(Resend, resend, m);
    out->from = m->from;
    return out;
}

static Shoal__Done *enc_done(struct codec_arena *a, const struct msg_done *m) {
    BEGIN(Done, done, m);
    out->n_tokens = m->n_tokens;
    out->finish = (Shoal__Finish)m->finish;
    if (m->finish == FINISH_ERROR) out->error = enc_error(a, &m->error);
    Shoal__Usage *usage = enc_alloc(a, sizeof *usage);
    shoal__usage__init(usage);
    usage->prompt_tokens = m->usage.prompt_tokens;
    usage->completion_tokens = m->usage.completion_tokens;
    usage->cached_tokens = m->usage.cached_tokens;
    usage->reasoning_tokens = m->usage.reasoning_tokens;
    usage->restored_tokens = m->usage.restored_tokens;
    out->usage = usage;
    out->tail_channel = m->tail_channel;
    out->tail = (ProtobufCBinaryData){.len = m->tail_len, .data = (uint8_t *)m->tail};
    out->replica = enc_text(m->replica);
    return out;
}

static Shoal__Sync *enc_sync(struct codec_arena *a, const struct msg_sync *m) {
    Shoal__Sync *sync = enc_alloc(a, sizeof *sync);
    shoal__sync__init(sync);
    sync->n_entries = m->n_entries;
    sync->entries = enc_alloc(a, m->n_entries * sizeof(void *));
    for (uint32_t i = 0; i < m->n_entries; i++) {
        BEGIN(SyncEntry, sync_entry, &m->entries[i]);
        out->next = m->entries[i].next;
        sync->entries[i] = out;
    }
    return sync;
}

static Shoal__Unknown *enc_unknown(struct codec_arena *a, const struct msg_unknown *m) {
    BEGIN(Unknown, unknown, m);
    return out;
}

static Shoal__Superseded *enc_superseded(struct codec_arena *a, const struct msg_superseded *m) {
    BEGIN(Superseded, superseded, m);
    out->by = enc_attempt(a, &m->by);
    return out;
}

static Shoal__Cancel *enc_cancel(struct codec_arena *a, const struct msg_cancel *m) {
    BEGIN(Cancel, cancel, m);
    return out;
}

static Shoal__MoveOffer *enc_move_offer(struct codec_arena *a, const struct msg_move_offer *m) {
    BEGIN(MoveOffer, move_offer, m);
    out->n_tokens = m->n_tokens;
    out->handle = enc_text(m->handle);
    out->store = enc_text(m->store);
    out->bytes = m->bytes;
    out->lease_ms = m->lease_ms;
    return out;
}

static Shoal__MoveCommit *enc_move_commit(struct codec_arena *a, const struct msg_move_commit *m) {
    BEGIN(MoveCommit, move_commit, m);
    out->by = enc_attempt(a, &m->by);
    return out;
}

static Shoal__Notice *enc_notice(struct codec_arena *a, const struct msg_notice *m) {
    Shoal__Notice *out = enc_alloc(a, sizeof *out);
    shoal__notice__init(out);
    out->name = enc_text(m->name);
    out->deadline_ms = m->deadline_ms;
    return out;
}

static Shoal__Attach *enc_attach(struct codec_arena *a, const struct msg_attach *m) {
    BEGIN(Attach, attach, m);
    out->next = m->next;
    out->fingerprint = enc_text(m->fingerprint);
    out->model = enc_text(m->model);
    out->deployment = enc_text(m->deployment);
    out->asks = m->asks;
    out->held = m->held;
    out->prefix = m->prefix;
    out->tenant = enc_text(m->tenant);
    out->deadline_ms = m->deadline_ms;
    out->hops = m->hops;
    return out;
}

static void enc_query(struct codec_arena *a, Shoal__Envelope *env) {
    env->query = enc_alloc(a, sizeof *env->query);
    shoal__query__init(env->query);
}

#define BODY(KIND, field, make)                                                                                             \
    case MSG_##KIND:                                                                                                        \
        env->body_case = SHOAL__ENVELOPE__BODY_##KIND;                                                                      \
        env->field = make(a, &m->field);                                                                                    \
        break

static void enc_body(struct codec_arena *a, const struct msg *m, Shoal__Envelope *env) {
    switch (m->kind) {
        BODY(GENERATE, generate, enc_generate);
        BODY(ACCEPTED, accepted, enc_accepted);
        BODY(REJECTED, rejected, enc_rejected);
        BODY(TOKENS, tokens, enc_tokens);
        BODY(ACK, ack, enc_ack);
        BODY(RESEND, resend, enc_resend);
        BODY(DONE, done, enc_done);
        BODY(SYNC, sync, enc_sync);
        BODY(UNKNOWN, unknown, enc_unknown);
        BODY(SUPERSEDED, superseded, enc_superseded);
        BODY(CANCEL, cancel, enc_cancel);
        BODY(HELLO, hello, enc_hello);
        BODY(STATUS, status, enc_status);
        BODY(CLUSTER, cluster, enc_cluster);
        BODY(MOVE_OFFER, move_offer, enc_move_offer);
        BODY(MOVE_COMMIT, move_commit, enc_move_commit);
        BODY(NOTICE, notice, enc_notice);
        BODY(ATTACH, attach, enc_attach);
    case MSG_QUERY:
        env->body_case = SHOAL__ENVELOPE__BODY_QUERY;
        enc_query(a, env);
        break;
    case MSG_NONE:
    case MSG_KIND_COUNT:
        CHECK(!"a message without a kind");
    }
}

bool enc_pack(const ProtobufCMessage *m, size_t max, struct buf *out) {
    size_t size = protobuf_c_message_get_packed_size(m);
    if (size > max) return false;
    uint8_t *to = (uint8_t *)buf_reserve(out, size);
    size_t n = protobuf_c_message_pack(m, to);
    CHECK(n == size);
    out->len += n;
    out->data[out->len] = '\0';
    return true;
}

bool codec_encode(const struct msg *m, struct buf *out) {
    _Alignas(16) uint8_t stack[STACK_BYTES];
    struct codec_arena arena;
    codec_arena_borrow(&arena, stack, sizeof stack);
    Shoal__Envelope env;
    shoal__envelope__init(&env);
    env.version = m->kind == MSG_HELLO ? PROTOCOL_OLDEST : PROTOCOL_VERSION;
    enc_body(&arena, m, &env);
    bool fits = enc_pack(&env.base, FRAME_BYTES_MAX, out);
    codec_arena_free(&arena);
    return fits;
}
