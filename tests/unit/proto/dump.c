// Messages as text: one "name=value" per field, every field of the struct.
#include "tests/unit/proto/messages.h"

#include <inttypes.h>

static void number(struct buf *b, const char *name, uint64_t x) { buf_printf(b, " %s=%" PRIu64, name, x); }
static void real(struct buf *b, const char *name, float x) { buf_printf(b, " %s=%a", name, (double)x); }
static void word(struct buf *b, const char *name, const char *s) { buf_printf(b, " %s='%s'", name, s ? s : "(null)"); }
static void bytes(struct buf *b, const char *name, const void *data, size_t n) {
    buf_printf(b, " %s[%zu]=", name, n);
    for (size_t i = 0; i < n; i++) buf_printf(b, "%02x", ((const uint8_t *)data)[i]);
}
#define NUMBER(m, field) number(b, #field, (uint64_t)(m)->field)
#define REAL(m, field)   real(b, #field, (m)->field)
#define WORD(m, field)   word(b, #field, (m)->field)

static void attempt(struct buf *b, const char *name, const struct attempt *a) {
    buf_printf(b, " %s=(%u,%u,%" PRIx64 ")", name, a->takeover, a->counter, a->router);
}

static void stream(struct buf *b, const struct stream_key *key, const struct attempt *a) {
    bytes(b, "request", key->request.bytes, sizeof key->request.bytes);
    NUMBER(key, choice);
    attempt(b, "attempt", a);
}
#define STREAM(m) stream(b, &(m)->key, &(m)->attempt)

static void error(struct buf *b, const struct error *e) {
    word(b, "error", error_info(e->id)->name);
    word(b, "text", error_text(e)); // none is sent as that of its id
    WORD(e, param);
}

static void records(struct buf *b, const struct records *all) {
    NUMBER(all, count);
    for (uint32_t i = 0; i < all->count; i++) {
        struct record r = records_get(all, i);
        buf_printf(b, "\n  %u token=%u channel=%u logprob=%d,%a text='%.*s'", i, r.token, r.channel, r.has_logprob,
                   (double)r.logprob, (int)r.text_len, r.text);
        for (uint32_t k = 0; k < r.n_top; k++) {
            buf_printf(b, " %u:%a", r.top[k].token, (double)r.top[k].logprob);
            for (uint32_t c = 0; c < r.top[k].text_len; c++) buf_printf(b, "%02x", (unsigned char)r.top[k].text[c]);
        }
    }
}

static void info(struct buf *b, const struct deployment_info *i) {
    WORD(i, model), WORD(i, deployment), WORD(i, fingerprint);
    NUMBER(i, n_aliases);
    for (uint32_t k = 0; k < i->n_aliases; k++) WORD(i, aliases[k]);
    NUMBER(i, max_context), NUMBER(i, max_seqs), REAL(i, bytes_per_token), WORD(i, store);
}

static void members(struct buf *b, uint32_t n, const struct member *m) {
    number(b, "members", n);
    for (uint32_t i = 0; i < n; i++) buf_printf(b, "\n  '%s' %u %u %u", m[i].name, m[i].stage, m[i].rank, m[i].pid);
}

static void deployment(struct buf *b, const struct deployment_status *d) {
    buf_str(b, "\n ");
    NUMBER(d, groups), info(b, &d->info);
    NUMBER(d, running), NUMBER(d, queued), NUMBER(d, queued_tokens), NUMBER(d, decode_left), NUMBER(d, blocks_free);
    NUMBER(d, blocks_total), NUMBER(d, replicas_ready), NUMBER(d, replicas_total), NUMBER(d, generates_seen);
    REAL(d, prefill_rate), REAL(d, decode_rate), NUMBER(d, decoded_total), NUMBER(d, prefilled_total);
}

static void hello(struct buf *b, const struct msg_hello *m) {
    NUMBER(m, protocol_min), NUMBER(m, protocol_max), NUMBER(m, role), NUMBER(m, incarnation), WORD(m, name);
    WORD(m, region), WORD(m, zone), NUMBER(m, pid), NUMBER(m, heartbeat_ms), WORD(m, http), WORD(m, zmq);
    NUMBER(m, reply_wanted), info(b, &m->info), members(b, m->n_members, m->members);
}

static void status(struct buf *b, const struct msg_status *m) {
    NUMBER(m, seq), NUMBER(m, full), NUMBER(m, has_life), NUMBER(m, state), REAL(m, progress), NUMBER(m, eta_ms);
    NUMBER(m, deadline_ms), WORD(m, reason), NUMBER(m, n_deployments);
    for (uint32_t i = 0; i < m->n_deployments; i++) deployment(b, &m->deployments[i]);
}

static void generate(struct buf *b, const struct msg_generate *m) {
    STREAM(m), WORD(m, model), WORD(m, deployment), WORD(m, fingerprint), WORD(m, pin), WORD(m, tenant);
    NUMBER(m, has_seed), NUMBER(m, seed), NUMBER(m, deadline_ms), NUMBER(m, max_tokens), NUMBER(m, prompt_bytes),
        NUMBER(m, priority);
    NUMBER(m, hops), NUMBER(m, keep), bytes(b, "body", m->body, m->body_len), records(b, &m->records);
    WORD(m, restore), WORD(m, store);
}

static void done(struct buf *b, const struct msg_done *m) {
    STREAM(m), NUMBER(m, n_tokens), NUMBER(m, finish), error(b, &m->error);
    NUMBER(&m->usage, prompt_tokens), NUMBER(&m->usage, completion_tokens), NUMBER(&m->usage, cached_tokens);
    NUMBER(&m->usage, reasoning_tokens), NUMBER(&m->usage, restored_tokens), NUMBER(m, tail_channel),
        bytes(b, "tail", m->tail, m->tail_len), WORD(m, replica);
}

static void cluster(struct buf *b, const struct msg_cluster *m) {
    NUMBER(m, n_routers);
    for (uint32_t i = 0; i < m->n_routers; i++) {
        const struct router_view *r = &m->routers[i];
        buf_str(b, "\n ");
        WORD(r, name), WORD(r, region), NUMBER(r, pid), WORD(r, http), WORD(r, zmq);
    }
    NUMBER(m, n_replicas);
    for (uint32_t i = 0; i < m->n_replicas; i++) {
        const struct replica_view *r = &m->replicas[i];
        buf_str(b, "\n ");
        WORD(r, name), WORD(r, region), WORD(r, zone), NUMBER(r, state), NUMBER(r, suspect), NUMBER(r, deadline_ms),
            WORD(r, reason);
        deployment(b, &r->status), members(b, r->n_members, r->members);
    }
}

void dump_msg(const struct msg *m, struct buf *b) {
    buf_str(b, msg_kind_name(m->kind));
    switch (m->kind) {
    case MSG_HELLO:
        hello(b, &m->hello);
        break;
    case MSG_STATUS:
        status(b, &m->status);
        break;
    case MSG_GENERATE:
        generate(b, &m->generate);
        break;
    case MSG_ACCEPTED:
        STREAM(&m->accepted), NUMBER(&m->accepted, prompt_tokens), NUMBER(&m->accepted, max_tokens);
        WORD(&m->accepted, replica), WORD(&m->accepted, fingerprint);
        break;
    case MSG_REJECTED:
        STREAM(&m->rejected), error(b, &m->rejected.error), NUMBER(&m->rejected, retry_after_ms);
        WORD(&m->rejected, replica), NUMBER(&m->rejected, kills);
        break;
    case MSG_TOKENS:
        STREAM(&m->tokens), NUMBER(&m->tokens, offset), records(b, &m->tokens.records);
        break;
    case MSG_ACK:
        STREAM(&m->ack), NUMBER(&m->ack, next), NUMBER(&m->ack, done);
        break;
    case MSG_RESEND:
        STREAM(&m->resend), NUMBER(&m->resend, from);
        break;
    case MSG_DONE:
        done(b, &m->done);
        break;
    case MSG_SYNC:
        NUMBER(&m->sync, n_entries);
        for (uint32_t i = 0; i < m->sync.n_entries; i++)
            buf_str(b, "\n "), STREAM(&m->sync.entries[i]), NUMBER(&m->sync.entries[i], next);
        break;
    case MSG_UNKNOWN:
        STREAM(&m->unknown);
        break;
    case MSG_SUPERSEDED:
        STREAM(&m->superseded), attempt(b, "by", &m->superseded.by);
        break;
    case MSG_CANCEL:
        STREAM(&m->cancel);
        break;
    case MSG_ATTACH:
        STREAM(&m->attach), NUMBER(&m->attach, next), WORD(&m->attach, fingerprint), WORD(&m->attach, model);
        WORD(&m->attach, deployment), buf_printf(b, " asks=%llx", (unsigned long long)m->attach.asks);
        NUMBER(&m->attach, held), buf_printf(b, " prefix=%llx", (unsigned long long)m->attach.prefix);
        WORD(&m->attach, tenant), NUMBER(&m->attach, deadline_ms), NUMBER(&m->attach, hops);
        break;
    case MSG_CLUSTER:
        cluster(b, &m->cluster);
        break;
    case MSG_MOVE_OFFER:
        STREAM(&m->move_offer), NUMBER(&m->move_offer, n_tokens), WORD(&m->move_offer, handle);
        WORD(&m->move_offer, store), NUMBER(&m->move_offer, bytes), NUMBER(&m->move_offer, lease_ms);
        break;
    case MSG_MOVE_COMMIT:
        STREAM(&m->move_commit), attempt(b, "by", &m->move_commit.by);
        break;
    case MSG_NOTICE:
        WORD(&m->notice, name), NUMBER(&m->notice, deadline_ms);
        break;
    case MSG_QUERY:
    case MSG_NONE:
    case MSG_KIND_COUNT:
        break;
    }
    buf_char(b, '\n');
}

void dump_prompt(const struct prompt *p, struct buf *b) {
    const struct sampling *s = &p->sampling;
    NUMBER(p, kind), WORD(p, messages_json), WORD(p, tools_json), WORD(p, template_kwargs_json);
    bytes(b, "text", p->text, p->text_len), bytes(b, "tokens", p->tokens, p->n_tokens * sizeof *p->tokens);
    NUMBER(s, has_temperature), REAL(s, temperature), NUMBER(s, has_top_p), REAL(s, top_p), NUMBER(s, has_top_k);
    NUMBER(s, top_k), NUMBER(s, has_min_p), REAL(s, min_p), NUMBER(s, has_repetition_penalty), REAL(s, repetition_penalty);
    REAL(s, presence_penalty), REAL(s, frequency_penalty);
    NUMBER(p, min_tokens), NUMBER(p, ignore_eos), NUMBER(p, logprobs), NUMBER(p, top_logprobs), NUMBER(p, include_stop);
    NUMBER(p, keep_special_tokens), NUMBER(p, n_choices), NUMBER(p, n_stop);
    for (uint32_t i = 0; i < p->n_stop; i++) WORD(p, stop[i]);
    bytes(b, "stop_tokens", p->stop_tokens, p->n_stop_tokens * sizeof *p->stop_tokens);
    NUMBER(s, has_typical_p), REAL(s, typical_p), NUMBER(p, n_allowed), NUMBER(p, n_banned);
    bytes(b, "allowed", p->allowed, p->n_allowed * sizeof *p->allowed);
    bytes(b, "banned", p->banned, p->n_banned * sizeof *p->banned);
    NUMBER(p, n_bad_words);
    for (uint32_t i = 0; i < p->n_bad_words; i++) WORD(p, bad_words[i]);
    NUMBER(p, tool_choice), WORD(p, tool_name), NUMBER(p, one_tool_call), NUMBER(p, response_format);
    WORD(p, response_schema), NUMBER(p, response_strict), WORD(p, response_regex), NUMBER(p, no_generation_prompt);
    NUMBER(p, continue_final_message), WORD(p, suffix), NUMBER(p, task), NUMBER(p, no_special_tokens), NUMBER(p, echo);
    NUMBER(p, n_logit_bias);
    for (uint32_t i = 0; i < p->n_logit_bias; i++) NUMBER(&p->logit_bias[i], token), REAL(&p->logit_bias[i], bias);
    buf_char(b, '\n');
}
