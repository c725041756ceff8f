#include "common/delivery/stream_rx.h"

#include "common/base/mark.h"

void stream_rx_init(struct stream_rx *rx, const struct stream_key *key) {
    *rx = (struct stream_rx){.key = *key, .ack_at = MS_NEVER, .resend_at = MS_NEVER};
}

void stream_rx_bind(struct stream_rx *rx, const struct attempt *attempt, link_id link, incarnation_t incarnation) {
    struct stream_key key = rx->key;
    enum rx_bug bug = rx->bug;
    stream_rx_init(rx, &key);
    rx->bug = bug;
    rx->attempt = *attempt;
    rx->link = link;
    rx->incarnation = incarnation;
}

void stream_rx_unbind(struct stream_rx *rx) {
    rx->link = 0;
    rx->incarnation = 0;
    rx->ack_at = rx->resend_at = MS_NEVER;
    rx->ack_due = false;
}

bool stream_rx_current(const struct stream_rx *rx, incarnation_t from, const struct attempt *attempt) {
    if (rx->bug == RX_BUG_STALE_ATTEMPT) return rx->link != 0;
    return rx->link != 0 && rx->incarnation == from && attempt_equal(&rx->attempt, attempt);
}

static void send_ack(struct stream_rx *rx, const struct record_log *log, bool done, const struct sink *sink) {
    struct msg m = {.kind = MSG_ACK};
    m.ack = (struct msg_ack){.key = rx->key, .attempt = rx->attempt, .next = record_log_count(log), .done = done};
    sink->send(sink->ctx, rx->link, &m);
    rx->ack_due = false;
    rx->ack_at = MS_NEVER;
}

static void ask_again(struct stream_rx *rx, uint32_t from, const struct sink *sink, ms_t now) {
    bool under_way = rx->resend_at != MS_NEVER && rx->resend_from == from && now < rx->resend_at;
    if (under_way) {
        MARK(rx_resend_under_way);
        return;
    }
    struct msg m = {.kind = MSG_RESEND};
    m.resend = (struct msg_resend){.key = rx->key, .attempt = rx->attempt, .from = from};
    sink->send(sink->ctx, rx->link, &m);
    rx->resend_from = from;
    rx->resend_at = now + RX_RESEND_MS;
}

enum rx_result stream_rx_on_tokens(struct stream_rx *rx, incarnation_t from, const struct msg_tokens *m,
                                   struct record_log *log, const struct sink *sink, ms_t now) {
    if (!stream_rx_current(rx, from, &m->attempt)) return RX_STALE;
    uint32_t have = record_log_count(log);
    if (m->offset > have) {
        ask_again(rx, have, sink, now);
        return RX_GAP;
    }
    uint32_t known = have - m->offset; // records of the message that the log holds already
    if (!rx->ack_due) {
        rx->ack_due = true;
        rx->ack_at = now + RX_ACK_MS;
    }
    if (rx->bug == RX_BUG_OFFSET_RULE) known = 0;
    if (known >= m->records.count) return RX_DUPLICATE;
    if (known > 0) MARK(rx_trims_overlap);
    for (uint32_t i = known; i < m->records.count; i++) {
        struct record r = records_get(&m->records, i);
        record_log_append(log, &r);
    }
    rx->resend_at = MS_NEVER;
    return RX_EXTENDED;
}

enum rx_result stream_rx_on_done(struct stream_rx *rx, incarnation_t from, const struct msg_done *m,
                                 const struct record_log *log, const struct sink *sink, ms_t now) {
    if (!stream_rx_current(rx, from, &m->attempt)) return RX_STALE;
    uint32_t have = record_log_count(log);
    if (have < m->n_tokens) {
        ask_again(rx, have, sink, now);
        return RX_GAP;
    }
    if (have > m->n_tokens) return RX_INVALID;
    send_ack(rx, log, true, sink);
    if (rx->done) return RX_DUPLICATE;
    rx->done = true;
    rx->resend_at = MS_NEVER;
    return RX_DONE;
}

ms_t stream_rx_tick(struct stream_rx *rx, const struct record_log *log, const struct sink *sink, ms_t now) {
    if (rx->link == 0) return MS_NEVER;
    if (rx->ack_due && rx->ack_at <= now) send_ack(rx, log, rx->done, sink);
    if (rx->resend_at <= now) {
        MARK(rx_asks_again);
        ask_again(rx, record_log_count(log), sink, now);
    }
    return rx->ack_at < rx->resend_at ? rx->ack_at : rx->resend_at;
}
