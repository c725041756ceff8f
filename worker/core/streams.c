#include "worker/core/streams.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/core/slots.h"

#include <stdlib.h>

static bool match_key(const void *entry, const void *key) {
    return stream_key_equal(&((const struct stream *)entry)->key, key);
}

static bool match_ticket(const void *entry, const void *ticket) {
    return ((const struct stream *)entry)->ticket == *(const uint64_t *)ticket;
}

struct stream *streams_find(const struct streams *s, const struct stream_key *key) {
    return table_find(&s->by_key, stream_key_hash(key), match_key, key);
}

struct stream *streams_by_ticket(const struct streams *s, uint64_t ticket) {
    return table_find(&s->by_ticket, hash_mix(ticket), match_ticket, &ticket);
}

static void drop_ticket(struct streams *s, struct stream *stream) {
    if (stream->ticket != 0) CHECK(table_remove(&s->by_ticket, hash_mix(stream->ticket), stream));
    stream->ticket = 0;
}

uint64_t streams_take_ticket(struct streams *s, struct stream *stream) {
    drop_ticket(s, stream);
    stream->ticket = ++s->tickets;
    table_add(&s->by_ticket, hash_mix(stream->ticket), stream);
    return stream->ticket;
}

struct stream *streams_add(struct streams *s, const struct stream_key *key, const struct attempt *attempt, link_id link,
                           const struct records *given) {
    struct stream *stream = xcalloc(1, sizeof *stream);
    stream->key = *key;
    stream->known = true;
    stream->n_given = given->count;
    stream->deadline_at = stream->parked_at = MS_NEVER;
    stream->seq.slot = SLOT_NONE;
    stream->seq.pause_at = UINT32_MAX;
    stream->log = record_log_create();
    for (uint32_t i = 0; i < given->count; i++) {
        struct record r = records_get(given, i);
        record_log_append(stream->log, &r);
        stream->reasoning_tokens += r.channel == CHANNEL_REASONING;
    }
    stream_tx_init(&stream->tx, key, attempt, link, given->count);
    table_add(&s->by_key, stream_key_hash(key), stream);
    streams_take_ticket(s, stream);
    stream->next = s->first;
    *(s->first ? &s->first->prev : &s->last) = stream;
    s->first = stream;
    s->n_known++;
    s->n_preparing++;
    return stream;
}

static void count(struct streams *s, const struct stream *stream, uint32_t by) { // by: 1 or (uint32_t)-1
    if (!stream->known) return;
    if (stream->state == STREAM_PREPARING) s->n_preparing += by;
    if (stream->state == STREAM_LIVE) s->n_live += by;
    if (stream->state == STREAM_OFFERED) s->n_offered += by;
    if (stream->state != STREAM_ENDED) return;
    if (!stream->tx.done_acked) s->n_unclaimed += by;
    s->ended_bytes += by == 1 ? record_log_bytes(stream->log) : -record_log_bytes(stream->log);
}

void streams_set_state(struct streams *s, struct stream *stream, enum stream_state state) {
    count(s, stream, (uint32_t)-1);
    drop_ticket(s, stream);
    stream->state = state;
    count(s, stream, 1);
}

void streams_forget(struct streams *s, struct stream *stream) {
    count(s, stream, (uint32_t)-1);
    drop_ticket(s, stream);
    CHECK(table_remove(&s->by_key, stream_key_hash(&stream->key), stream));
    s->n_known--;
    stream->known = false;
}

uint32_t streams_kept(const struct streams *s) {
    return s->n_known - s->n_preparing - s->n_live - s->n_offered - s->n_unclaimed;
}

struct stream *streams_oldest_kept(const struct streams *s) {
    struct stream *stream = s->last;
    while (stream && !(stream->known && stream->state == STREAM_ENDED && (stream->tx.done_acked || stream->tx.link == 0)))
        stream = stream->prev;
    return stream;
}

void streams_free(struct streams *s, struct stream *stream) {
    CHECK(!stream->known);
    *(stream->prev ? &stream->prev->next : &s->first) = stream->next;
    *(stream->next ? &stream->next->prev : &s->last) = stream->prev;
    sequence_fini(&stream->seq);
    record_log_destroy(stream->log);
    free(stream);
}

void streams_check(const struct streams *s) {
    uint32_t known = 0, preparing = 0, live = 0, offered = 0, unclaimed = 0, tickets = 0;
    uint64_t ended_bytes = 0;
    for (const struct stream *i = s->first; i != NULL; i = i->next) {
        if (!i->known) continue;
        known++;
        preparing += i->state == STREAM_PREPARING;
        live += i->state == STREAM_LIVE;
        offered += i->state == STREAM_OFFERED;
        tickets += i->ticket != 0;
        unclaimed += i->state == STREAM_ENDED && !i->tx.done_acked;
        ended_bytes += i->state == STREAM_ENDED ? record_log_bytes(i->log) : 0;
        CHECK(streams_find(s, &i->key) == i);
        CHECK(i->ticket != 0 ? i->state <= STREAM_LIVE && streams_by_ticket(s, i->ticket) == i
                             : i->state != STREAM_PREPARING);
        CHECK(i->tx.finished == (i->state == STREAM_ENDED));
        CHECK((i->tx.link == 0) == (i->parked_at != MS_NEVER));
    }
    CHECK(known == s->n_known && preparing == s->n_preparing && live == s->n_live && unclaimed == s->n_unclaimed);
    CHECK(ended_bytes == s->ended_bytes);
    CHECK(offered == s->n_offered && s->by_key.count == known && s->by_ticket.count == tickets);
}
