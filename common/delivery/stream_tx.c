#include "common/delivery/stream_tx.h"

#include "common/base/check.h"
#include "common/base/mark.h"

void stream_tx_init(struct stream_tx *tx, const struct stream_key *key, const struct attempt *attempt, link_id link,
                    uint32_t from) {
    *tx = (struct stream_tx){.key = *key, .attempt = *attempt, .link = link, .sent = from, .acked = from};
    tx->retry_at = MS_NEVER;
    tx->retry_ms = TX_RETRY_MS;
}

void stream_tx_attach(struct stream_tx *tx, link_id link, const struct attempt *attempt, uint32_t next) {
    tx->link = link;
    tx->attempt = *attempt;
    tx->done.attempt = *attempt;
    tx->sent = tx->acked = next;
    tx->done_acked = false;
    tx->retry_at = MS_NEVER; // pump sends at once, Done too, and arms it
    tx->retry_ms = TX_RETRY_MS;
}

void stream_tx_detach(struct stream_tx *tx) {
    tx->link = 0;
    tx->retry_at = MS_NEVER;
}

// How many records from `from` fit one message; at least one.
static uint32_t span(const struct record_log *log, uint32_t from, uint32_t count) {
    size_t bytes = 0;
    uint32_t n = 0;
    while (from + n < count && n < RECORDS_PER_FRAME) {
        struct record r = record_log_get(log, from + n);
        bytes += 32 + r.text_len + r.n_top * (12u + TOP_TEXT_MAX + 2u);
        if (n > 0 && bytes > RECORD_BYTES_PER_FRAME) break;
        n++;
    }
    return n;
}

static void send_records(struct stream_tx *tx, const struct record_log *log, const struct sink *sink) {
    uint32_t count = record_log_count(log);
    if (tx->sent > count) tx->sent = count;
    while (tx->sent < count) {
        struct msg m = {.kind = MSG_TOKENS};
        m.tokens = (struct msg_tokens){.key = tx->key, .attempt = tx->attempt, .offset = tx->sent};
        m.tokens.records = (struct records){.log = log, .from = tx->sent, .count = span(log, tx->sent, count)};
        sink->send(sink->ctx, tx->link, &m);
        tx->sent += m.tokens.records.count;
    }
}

static void send_done(const struct stream_tx *tx, const struct sink *sink) {
    struct msg m = {.kind = MSG_DONE, .done = tx->done};
    sink->send(sink->ctx, tx->link, &m);
}

void stream_tx_pump(struct stream_tx *tx, const struct record_log *log, const struct sink *sink, ms_t now) {
    if (tx->link == 0) return;
    bool idle = tx->retry_at == MS_NEVER;
    bool news = tx->sent < record_log_count(log);
    send_records(tx, log, sink);
    if (tx->finished && !tx->done_acked && (news || idle)) send_done(tx, sink);
    if (idle && (tx->acked < tx->sent || (tx->finished && !tx->done_acked))) tx->retry_at = now + tx->retry_ms;
}

void stream_tx_finish(struct stream_tx *tx, const struct msg_done *done) {
    CHECK(!tx->finished);
    tx->finished = true;
    tx->done = *done;
    tx->done.key = tx->key;
    tx->done.attempt = tx->attempt;
    tx->retry_at = MS_NEVER;
    tx->retry_ms = TX_RETRY_MS;
}

void stream_tx_on_ack(struct stream_tx *tx, const struct msg_ack *ack, ms_t now) {
    if (!attempt_equal(&ack->attempt, &tx->attempt)) {
        MARK(tx_ack_of_another_attempt);
        return;
    }
    if (ack->next > tx->acked && ack->next <= tx->sent) {
        tx->acked = ack->next;
        tx->retry_ms = TX_RETRY_MS;
        if (tx->retry_at != MS_NEVER) tx->retry_at = now + tx->retry_ms;
    }
    if (ack->done && tx->finished) tx->done_acked = true;
    if (tx->acked == tx->sent && (!tx->finished || tx->done_acked)) tx->retry_at = MS_NEVER;
}

void stream_tx_on_resend(struct stream_tx *tx, const struct msg_resend *resend, const struct record_log *log,
                         const struct sink *sink, ms_t now) {
    if (tx->link == 0 || !attempt_equal(&resend->attempt, &tx->attempt) || resend->from > record_log_count(log)) return;
    MARK(tx_goes_back);
    tx->sent = resend->from;
    send_records(tx, log, sink);
    if (tx->finished && !tx->done_acked) send_done(tx, sink);
    tx->retry_at = now + tx->retry_ms;
}

ms_t stream_tx_tick(struct stream_tx *tx, const struct record_log *log, const struct sink *sink, ms_t now) {
    if (tx->link == 0 || tx->retry_at > now) return tx->link ? tx->retry_at : MS_NEVER;
    MARK(tx_sends_again);
    tx->sent = tx->acked;
    send_records(tx, log, sink);
    if (tx->finished && !tx->done_acked) {
        MARK(tx_repeats_done);
        send_done(tx, sink);
    }
    tx->retry_ms = tx->retry_ms * 2 < TX_RETRY_MAX_MS ? tx->retry_ms * 2 : TX_RETRY_MAX_MS;
    tx->retry_at = now + tx->retry_ms;
    return tx->retry_at;
}
