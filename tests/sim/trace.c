#include "tests/sim/trace.h"

#include "common/base/check.h"

#include <stdarg.h>
#include <stdlib.h>

void trace_init(struct trace *t, bool on) {
    *t = (struct trace){0};
    if (on) t->ring = xcalloc(TRACE_ENTRIES, sizeof *t->ring);
}

void trace_free(struct trace *t) {
    free(t->ring);
    *t = (struct trace){0};
}

void trace_note(struct trace *t, us_t at, const struct stream_key *key, const char *format, ...) {
    if (t->ring == NULL) return;
    struct trace_entry *e = &t->ring[t->count++ % TRACE_ENTRIES];
    *e = (struct trace_entry){.at = at};
    if (key) e->key = *key;
    va_list ap;
    va_start(ap, format);
    vsnprintf(e->text, sizeof e->text, format, ap);
    va_end(ap);
}

struct about {
    const struct stream_key *key;
    const struct attempt *attempt;
    char what[80];
};

static struct about about_message(const struct msg *m) {
    struct about a = {0};
    switch (m->kind) {
#define ABOUT(arm) a.key = &m->arm.key, a.attempt = &m->arm.attempt
    case MSG_GENERATE:
        ABOUT(generate), snprintf(a.what, sizeof a.what, "records=%u", m->generate.records.count);
        break;
    case MSG_ACCEPTED:
        ABOUT(accepted);
        break;
    case MSG_REJECTED:
        ABOUT(rejected),
            snprintf(a.what, sizeof a.what, "%s kills=%u", error_info(m->rejected.error.id)->name, m->rejected.kills);
        break;
    case MSG_TOKENS:
        ABOUT(tokens), snprintf(a.what, sizeof a.what, "offset=%u count=%u", m->tokens.offset, m->tokens.records.count);
        break;
    case MSG_ACK:
        ABOUT(ack), snprintf(a.what, sizeof a.what, "next=%u done=%d", m->ack.next, m->ack.done);
        break;
    case MSG_RESEND:
        ABOUT(resend), snprintf(a.what, sizeof a.what, "from=%u", m->resend.from);
        break;
    case MSG_DONE:
        ABOUT(done), snprintf(a.what, sizeof a.what, "n=%u finish=%d", m->done.n_tokens, (int)m->done.finish);
        break;
    case MSG_UNKNOWN:
        ABOUT(unknown);
        break;
    case MSG_SUPERSEDED:
        ABOUT(superseded);
        break;
    case MSG_CANCEL:
        ABOUT(cancel);
        break;
    case MSG_ATTACH:
        ABOUT(attach), snprintf(a.what, sizeof a.what, "next=%u", m->attach.next);
        break;
    case MSG_MOVE_OFFER:
        ABOUT(move_offer),
            snprintf(a.what, sizeof a.what, "n=%u handle=%.32s", m->move_offer.n_tokens, m->move_offer.handle);
        break;
    case MSG_MOVE_COMMIT:
        ABOUT(move_commit),
            snprintf(a.what, sizeof a.what, "by %u.%u", m->move_commit.by.takeover, m->move_commit.by.counter);
        break;
#undef ABOUT
    case MSG_SYNC:
        snprintf(a.what, sizeof a.what, "entries=%u", m->sync.n_entries);
        break;
    case MSG_STATUS:
        snprintf(a.what, sizeof a.what, "full=%d groups of %u", m->status.full, m->status.n_deployments);
        break;
    case MSG_HELLO:
        snprintf(a.what, sizeof a.what, "%s life %llx wanted=%d", m->hello.name, (unsigned long long)m->hello.incarnation,
                 m->hello.reply_wanted);
        break;
    default:
        break;
    }
    return a;
}

void trace_message(struct trace *t, us_t at, const char *from, const char *to, link_id link, const struct msg *m) {
    if (t->ring == NULL || (m->kind == MSG_STATUS && m->status.n_deployments == 0)) return;
    struct about a = about_message(m);
    if (a.key == NULL) {
        trace_note(t, at, NULL, "%s -> %s(%u) %s %s", from, to, link, msg_kind_name(m->kind), a.what);
        return;
    }
    trace_note(t, at, a.key, "%s -> %s(%u) %s [%02x%02x] %u.%u.%04x %s", from, to, link, msg_kind_name(m->kind),
               a.key->request.bytes[0], a.key->request.bytes[1], a.attempt->takeover, a.attempt->counter,
               (unsigned)(a.attempt->router & 0xffff), a.what);
}

static void print_entry(const struct trace_entry *e, FILE *out) {
    fprintf(out, "%14.6f  %s\n", (double)e->at / 1e6, e->text);
}

void trace_print(const struct trace *t, const struct stream_key *key, FILE *out) {
    if (t->ring == NULL) return;
    uint64_t first = t->count > TRACE_ENTRIES ? t->count - TRACE_ENTRIES : 0;
    if (key) {
        fprintf(out, "--- the stream's events:\n");
        for (uint64_t i = first; i < t->count; i++) {
            const struct trace_entry *e = &t->ring[i % TRACE_ENTRIES];
            if (stream_key_equal(&e->key, key)) print_entry(e, out);
        }
    }
    fprintf(out, "--- the last events:\n");
    for (uint64_t i = t->count > first + TRACE_SHOWN ? t->count - TRACE_SHOWN : first; i < t->count; i++) {
        print_entry(&t->ring[i % TRACE_ENTRIES], out);
    }
}
