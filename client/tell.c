// What has come of a call, told as events, in order, each once: a batch is copied with the lock held and told without it.
#include "client/internal.h"

#include "common/base/check.h"

#include <stdlib.h>

bool ticket_has_news(const struct ticket *t) {
    const struct call *c = &t->call;
    if (t->ended) return false;
    if (t->stopped) return c->state == CALL_ENDED;
    return c->state == CALL_ENDED || c->accepted != t->accepted || record_log_count(c->log) > t->told;
}

void ticket_cancel(struct ticket *t) {
    t->cancelled = true;
    uv_async_send(&t->of->shoal->wake);
}

static void copy_batch(struct teller *b, const struct ticket *t) {
    const struct record_log *log = t->call.log;
    uint32_t left = record_log_count(log) - t->told;
    b->n = left < TELL_BATCH ? left : TELL_BATCH;
    buf_reset(&b->text), buf_reset(&b->tops);
    for (uint32_t i = 0; i < b->n; i++) {
        b->records[i] = record_log_get(log, t->told + i);
        buf_append(&b->text, b->records[i].text, b->records[i].text_len);
        buf_append(&b->tops, b->records[i].top, b->records[i].n_top * sizeof(struct top_logprob));
    }
    size_t text = 0, top = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        b->records[i].text = b->text.data + text;
        b->records[i].top = (const struct top_logprob *)(void *)(b->tops.data + top);
        text += b->records[i].text_len;
        top += b->records[i].n_top * sizeof(struct top_logprob);
    }
}

// The fields that all events of a choice share, as they stand.
static void copy_state(const struct ticket *t) {
    const struct call *c = &t->call;
    struct shoal_event *e = &t->of->event;
    memcpy(e->replica, c->replica, sizeof e->replica);
    memcpy(e->router, c->router_name, sizeof e->router);
    e->choice = c->request.key.choice;
    e->attempt = c->seen.counter;
    e->attempts = c->attempts;
    e->prompt_tokens = c->prompt_tokens;
    e->max_tokens = c->max_tokens;
}

_Static_assert(sizeof(struct shoal_top_logprob) == sizeof(struct top_logprob), "the same in both worlds");

static bool tell(const struct shoal_call *c, const struct shoal_event *e) {
    return c->on_event == NULL || c->on_event(c->ctx, e);
}

static bool tell_record(const struct ticket *t, const struct record *record, uint32_t offset) {
    struct shoal_event e = t->of->event;
    e.kind = SHOAL_TOKEN;
    e.channel = (enum shoal_channel)record->channel;
    e.text = record->text_len ? record->text : "";
    e.text_len = record->text_len;
    e.offset = offset;
    e.token = record->token;
    e.has_logprob = record->has_logprob;
    e.logprob = record->logprob;
    e.n_top = record->n_top;
    e.top = (const struct shoal_top_logprob *)record->top;
    return tell(t->of, &e);
}

// false: the caller wants no more.
static bool tell_batch(const struct teller *b, struct ticket *t, bool accepted) {
    if (accepted) {
        struct shoal_event e = t->of->event;
        e.kind = SHOAL_ACCEPTED;
        if (!tell(t->of, &e)) return false;
    }
    for (uint32_t i = 0; i < b->n; i++)
        if (!tell_record(t, &b->records[i], t->told + i)) return false;
    t->told += b->n;
    return true;
}

static const char *finish_name(enum finish finish) {
    static const char *const names[] = {"stop", "length", "tool_calls", "error", "cancelled"};
    return (unsigned)finish < ARRAY_LEN(names) ? names[finish] : "unknown";
}

static void tell_failure(struct shoal_call *of, struct call *c, struct shoal_event *e) {
    struct shoal_failure failure;
    failure_set(&failure, &c->failure, c->retry_after_ms);
    if (!of->failed) of->failure = failure;
    of->failed = true;
    e->kind = SHOAL_FAILED;
    e->failure = &failure;
    tell(of, e);
}

// The choice has ended; nobody else looks at it any more.
static void tell_end(struct ticket *t) {
    struct call *c = &t->call;
    struct shoal_call *of = t->of;
    copy_state(t);
    struct shoal_event e = of->event;
    t->ended = true;
    of->n_ended++;
    if (t->stopped) { // even if the answer was complete by then: not all of it was told
        c->complete = false;
        error_set(&c->failure, ERR_CANCELLED, "the call was cancelled");
    }
    if (c->complete && c->done.tail_len > 0) {
        e.kind = SHOAL_TAIL;
        e.channel = (enum shoal_channel)c->done.tail_channel;
        e.text = c->done.tail;
        e.text_len = c->done.tail_len;
        tell(of, &e);
        e = of->event;
    }
    e.last = of->n_ended == of->n;
    if (!c->complete) {
        tell_failure(of, c, &e);
        return;
    }
    e.kind = SHOAL_DONE;
    e.finish = finish_name(c->done.finish);
    e.prompt_tokens = c->done.usage.prompt_tokens;
    e.completion_tokens = c->done.usage.completion_tokens;
    e.cached_tokens = c->done.usage.cached_tokens;
    e.restored_tokens = c->done.usage.restored_tokens;
    e.reasoning_tokens = c->done.usage.reasoning_tokens;
    tell(of, &e);
}

// Who wants no more of one choice wants no more of any.
static void stop_all(struct shoal_call *c) {
    pthread_mutex_lock(&c->shoal->lock);
    for (uint32_t i = 0; i < c->n; i++) {
        struct ticket *t = &c->tickets[i];
        if (t->ended) continue;
        t->stopped = true;
        if (t->call.state != CALL_ENDED) ticket_cancel(t);
    }
    pthread_mutex_unlock(&c->shoal->lock);
}

// One batch of one choice. false: there was nothing to tell.
static bool tell_some(struct teller *b, struct ticket *t) {
    struct shoal *s = t->of->shoal;
    pthread_mutex_lock(&s->lock);
    bool news = ticket_has_news(t);
    bool accepted = news && t->call.accepted != t->accepted;
    t->accepted = t->call.accepted;
    b->n = 0;
    if (news && !t->stopped) {
        copy_state(t);
        copy_batch(b, t);
    }
    bool end = news && t->call.state == CALL_ENDED && (t->stopped || (b->n == 0 && !accepted));
    pthread_mutex_unlock(&s->lock);
    if (end)
        tell_end(t);
    else if (news && !tell_batch(b, t, accepted))
        stop_all(t->of);
    return news;
}

bool tell_news(struct teller *b, struct shoal_call *c) {
    for (bool any = true; any;) {
        any = false;
        for (uint32_t i = 0; i < c->n; i++) any = tell_some(b, &c->tickets[i]) || any;
    }
    return c->n_ended == c->n;
}

void teller_free(struct teller *b) {
    buf_free(&b->text);
    buf_free(&b->tops);
}
