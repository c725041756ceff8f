// Frames to plain structs: the envelope and the messages of a stream's life. Each dec_* fills the whole of its struct.
#include "proto/codec_internal.h"

static bool all_zero(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0) return false;
    return true;
}

err_id dec_stream(const Shoal__Stream *from, struct stream_key *out, struct error *e) {
    if (from == NULL) return error_set(e, ERR_PROTOCOL, "the message names no stream");
    if (from->request.len != sizeof out->request.bytes || all_zero(from->request.data, from->request.len))
        return error_set(e, ERR_PROTOCOL, "stream.request has %zu bytes; expected %zu, not all zero", from->request.len,
                         sizeof out->request.bytes);
    if (from->choice >= CHOICES_MAX)
        return error_set(e, ERR_PROTOCOL, "stream.choice is %u; choices are below %d", from->choice, CHOICES_MAX);
    memcpy(out->request.bytes, from->request.data, sizeof out->request.bytes);
    out->choice = from->choice;
    return ERR_NONE;
}

void dec_attempt(const Shoal__Attempt *from, struct attempt *out) {
    *out = from ? (struct attempt){from->takeover, from->counter, from->router} : (struct attempt){0};
}

// A number of records, or an offset.
static err_id dec_tokens_number(uint32_t n, const char *field, struct error *e) {
    if (n <= OUTPUT_TOKENS_MAX) return ERR_NONE;
    return error_set(e, ERR_PROTOCOL, "%s is %u; at most %d are allowed", field, n, OUTPUT_TOKENS_MAX);
}

// An id from a newer peer's catalogue becomes ERR_INTERNAL: its sentence still tells the truth.
static err_id dec_error(const Shoal__Error *from, struct error *out, struct error *e) {
    if (from == NULL || from->id == ERR_NONE) return error_set(e, ERR_PROTOCOL, "an error is due and none is given");
    out->id = from->id < ERR_COUNT ? (err_id)from->id : ERR_INTERNAL;
    dec_sentence(&from->text, out->text, sizeof out->text);
    dec_sentence(&from->param, out->param, sizeof out->param);
    return ERR_NONE;
}

// Begins the struct of a stream's message: every such message has the two fields.
#define BEGIN(from, out)                                                                                                    \
    TRY(dec_stream((from)->stream, &(out)->key, e));                                                                        \
    dec_attempt((from)->attempt, &(out)->attempt)
#define NAME(from, out, field) TRY(dec_name(&(from)->field, (out)->field, sizeof(out)->field, #field, e))

static err_id dec_generate(const Shoal__Generate *from, struct codec_arena *a, struct msg_generate *out, struct error *e) {
    BEGIN(from, out);
    NAME(from, out, model);
    NAME(from, out, deployment);
    NAME(from, out, fingerprint);
    NAME(from, out, pin);
    NAME(from, out, tenant);
    NAME(from, out, restore);
    NAME(from, out, store);
    TRY(dec_tokens_number(from->max_tokens, "max_tokens", e));
    if (from->hops > HOPS_MAX) return error_set(e, ERR_PROTOCOL, "hops is %u; at most %d are allowed", from->hops, HOPS_MAX);
    if (from->priority < -PRIORITY_MAX || from->priority > PRIORITY_MAX)
        return error_set(e, ERR_PROTOCOL, "priority is %d; it must be from %d to %d", from->priority, -PRIORITY_MAX,
                         PRIORITY_MAX);
    if (from->body.len > BODY_BYTES_MAX)
        return error_set(e, ERR_TOO_LARGE, "the prompt has %zu bytes; at most %d are allowed", from->body.len,
                         BODY_BYTES_MAX);
    TRY(dec_records(from->records, a, OUTPUT_TOKENS_MAX, &out->records, e));
    out->has_seed = from->seed_given_case == SHOAL__GENERATE__SEED_GIVEN_SEED;
    out->seed = out->has_seed ? from->seed : 0;
    out->deadline_ms = from->deadline_ms;
    out->max_tokens = from->max_tokens;
    out->prompt_bytes = from->prompt_bytes;
    out->hops = from->hops;
    out->keep = from->keep;
    out->priority = from->priority;
    out->body = from->body.data;
    out->body_len = from->body.len;
    return ERR_NONE;
}

static err_id dec_attach(const Shoal__Attach *from, struct codec_arena *a, struct msg_attach *out, struct error *e) {
    BEGIN(from, out);
    NAME(from, out, fingerprint);
    NAME(from, out, model);
    NAME(from, out, deployment);
    NAME(from, out, tenant);
    TRY(dec_tokens_number(from->next, "next", e));
    if (from->hops > HOPS_MAX) return error_set(e, ERR_PROTOCOL, "hops is %u; at most %d are allowed", from->hops, HOPS_MAX);
    TRY(dec_tokens_number(from->held, "held", e));
    out->next = from->next;
    out->held = from->held;
    out->prefix = from->prefix;
    out->asks = from->asks;
    out->deadline_ms = from->deadline_ms;
    out->hops = from->hops;
    return ERR_NONE;
}

static err_id dec_accepted(const Shoal__Accepted *from, struct codec_arena *a, struct msg_accepted *out, struct error *e) {
    BEGIN(from, out);
    NAME(from, out, replica);
    NAME(from, out, fingerprint);
    out->prompt_tokens = from->prompt_tokens;
    out->max_tokens = from->max_tokens;
    return ERR_NONE;
}

static err_id dec_rejected(const Shoal__Rejected *from, struct codec_arena *a, struct msg_rejected *out, struct error *e) {
    BEGIN(from, out);
    NAME(from, out, replica);
    TRY(dec_error(from->error, &out->error, e));
    out->retry_after_ms = from->retry_after_ms;
    out->kills = from->kills < KILLS_MAX ? from->kills : KILLS_MAX; // more makes no difference
    return ERR_NONE;
}

static err_id dec_tokens(const Shoal__Tokens *from, struct codec_arena *a, struct msg_tokens *out, struct error *e) {
    BEGIN(from, out);
    TRY(dec_records(from->records, a, RECORDS_PER_FRAME, &out->records, e));
    TRY(dec_tokens_number(from->offset, "offset", e));
    TRY(dec_tokens_number(from->offset + out->records.count, "offset and number of tokens", e));
    if (out->records.count == 0) return error_set(e, ERR_PROTOCOL, "the message brings no tokens");
    out->offset = from->offset;
    return ERR_NONE;
}

static err_id dec_ack(const Shoal__Ack *from, struct codec_arena *a, struct msg_ack *out, struct error *e) {
    BEGIN(from, out);
    out->next = from->next;
    out->done = from->done;
    return dec_tokens_number(from->next, "next", e);
}

static err_id dec_resend(const Shoal__Resend *from, struct codec_arena *a, struct msg_resend *out, struct error *e) {
    BEGIN(from, out);
    out->from = from->from;
    return dec_tokens_number(from->from, "from", e);
}

static err_id dec_done(const Shoal__Done *from, struct codec_arena *a, struct msg_done *out, struct error *e) {
    BEGIN(from, out);
    NAME(from, out, replica);
    TRY(dec_tokens_number(from->n_tokens, "n_tokens", e));
    if ((uint32_t)from->finish > FINISH_CANCELLED)
        return error_set(e, ERR_PROTOCOL, "finish is %d, which is not known", (int)from->finish);
    if (from->finish == SHOAL__FINISH__FINISH_ERROR) TRY(dec_error(from->error, &out->error, e));
    if (from->tail_channel > CHANNEL_TOOL)
        return error_set(e, ERR_PROTOCOL, "tail_channel is %u, which is not known", from->tail_channel);
    if (from->tail.len > RECORD_TEXT_MAX)
        return error_set(e, ERR_PROTOCOL, "tail has %zu bytes; at most %d are allowed", from->tail.len, RECORD_TEXT_MAX);
    if (utf8_prefix(from->tail.data, from->tail.len) != from->tail.len)
        return error_set(e, ERR_PROTOCOL, "tail is not valid UTF-8");
    const Shoal__Usage none = SHOAL__USAGE__INIT, *usage = from->usage ? from->usage : &none;
    out->usage = (struct usage){.prompt_tokens = usage->prompt_tokens,
                                .completion_tokens = usage->completion_tokens,
                                .cached_tokens = usage->cached_tokens,
                                .reasoning_tokens = usage->reasoning_tokens,
                                .restored_tokens = usage->restored_tokens};
    out->n_tokens = from->n_tokens;
    out->finish = (enum finish)from->finish;
    out->tail_channel = (uint8_t)from->tail_channel;
    out->tail_len = (uint32_t)from->tail.len;
    out->tail = from->tail.len > 0 ? (const char *)from->tail.data : "";
    return ERR_NONE;
}

static err_id dec_sync(const Shoal__Sync *from, struct codec_arena *a, struct msg_sync *out, struct error *e) {
    if (from->n_entries > SYNC_ENTRIES_MAX)
        return error_set(e, ERR_PROTOCOL, "sync has %zu entries; at most %d are allowed", from->n_entries, SYNC_ENTRIES_MAX);
    struct sync_entry *entries = codec_arena_alloc(a, from->n_entries * sizeof *entries);
    if (entries == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < from->n_entries; i++) {
        BEGIN(from->entries[i], &entries[i]);
        entries[i].next = from->entries[i]->next;
        TRY(dec_tokens_number(entries[i].next, "next", e));
    }
    out->n_entries = (uint32_t)from->n_entries;
    out->entries = entries;
    return ERR_NONE;
}

static err_id dec_unknown(const Shoal__Unknown *from, struct codec_arena *a, struct msg_unknown *out, struct error *e) {
    BEGIN(from, out);
    return ERR_NONE;
}

static err_id dec_superseded(const Shoal__Superseded *from, struct codec_arena *a, struct msg_superseded *out,
                             struct error *e) {
    BEGIN(from, out);
    dec_attempt(from->by, &out->by);
    return ERR_NONE;
}

static err_id dec_cancel(const Shoal__Cancel *from, struct codec_arena *a, struct msg_cancel *out, struct error *e) {
    BEGIN(from, out);
    return ERR_NONE;
}

static err_id dec_move_offer(const Shoal__MoveOffer *from, struct codec_arena *a, struct msg_move_offer *out,
                             struct error *e) {
    BEGIN(from, out);
    NAME(from, out, handle);
    NAME(from, out, store);
    TRY(dec_tokens_number(from->n_tokens, "n_tokens", e));
    if (from->handle.len > 0 && from->store.len == 0)
        return error_set(e, ERR_PROTOCOL, "the offer names a checkpoint and no store");
    out->n_tokens = from->n_tokens;
    out->bytes = from->bytes;
    out->lease_ms = from->lease_ms;
    return ERR_NONE;
}

static err_id dec_move_commit(const Shoal__MoveCommit *from, struct codec_arena *a, struct msg_move_commit *out,
                              struct error *e) {
    BEGIN(from, out);
    dec_attempt(from->by, &out->by);
    return ERR_NONE;
}

static err_id dec_notice(const Shoal__Notice *from, struct codec_arena *a, struct msg_notice *out, struct error *e) {
    NAME(from, out, name);
    if (from->name.len == 0) return error_set(e, ERR_PROTOCOL, "the notice names no replica");
    out->deadline_ms = from->deadline_ms;
    return ERR_NONE;
}

#define BODY(KIND, field, read)                                                                                             \
    case SHOAL__ENVELOPE__BODY_##KIND:                                                                                      \
        out->kind = MSG_##KIND;                                                                                             \
        return read(env->field, a, &out->field, e)

static err_id dec_body(const Shoal__Envelope *env, struct codec_arena *a, struct msg *out, struct error *e) {
    switch (env->body_case) {
        BODY(HELLO, hello, dec_hello);
        BODY(STATUS, status, dec_status);
        BODY(GENERATE, generate, dec_generate);
        BODY(ACCEPTED, accepted, dec_accepted);
        BODY(REJECTED, rejected, dec_rejected);
        BODY(TOKENS, tokens, dec_tokens);
        BODY(ACK, ack, dec_ack);
        BODY(RESEND, resend, dec_resend);
        BODY(DONE, done, dec_done);
        BODY(SYNC, sync, dec_sync);
        BODY(UNKNOWN, unknown, dec_unknown);
        BODY(SUPERSEDED, superseded, dec_superseded);
        BODY(CANCEL, cancel, dec_cancel);
        BODY(CLUSTER, cluster, dec_cluster);
        BODY(MOVE_OFFER, move_offer, dec_move_offer);
        BODY(MOVE_COMMIT, move_commit, dec_move_commit);
        BODY(NOTICE, notice, dec_notice);
        BODY(ATTACH, attach, dec_attach);
    case SHOAL__ENVELOPE__BODY_QUERY:
        out->kind = MSG_QUERY;
        return ERR_NONE;
    default:
        break;
    }
    if (env->base.n_unknown_fields > 0)
        return error_set(e, ERR_PROTOCOL, "the message is of kind %u, which this version does not know",
                         env->base.unknown_fields[0].tag);
    return error_set(e, ERR_PROTOCOL, "the envelope is empty");
}

err_id codec_decode(const uint8_t *frame, size_t len, struct codec_arena *arena, struct msg *out, struct error *e) {
    memset(out, 0, sizeof *out);
    if (len > FRAME_BYTES_MAX)
        return error_set(e, ERR_PROTOCOL, "the frame has %zu bytes; at most %d are allowed", len, FRAME_BYTES_MAX);
    ProtobufCAllocator allocator = codec_arena_allocator(arena);
    Shoal__Envelope *env = shoal__envelope__unpack(&allocator, len, frame);
    if (env == NULL) return error_set(e, ERR_PROTOCOL, "the frame of %zu bytes is not a valid Envelope", len);
    if (env->version < PROTOCOL_OLDEST || env->version > PROTOCOL_VERSION)
        return error_set(e, ERR_PROTOCOL, "the message has protocol version %u; this side speaks %d to %d", env->version,
                         PROTOCOL_OLDEST, PROTOCOL_VERSION);
    return dec_body(env, arena, out, e);
}
