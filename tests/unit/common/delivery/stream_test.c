// The sender and the receiver of a stream against each other over a link that loses, doubles and reorders whole messages.
#include "common/base/check.h"
#include "common/base/philox.h"
#include "common/delivery/stream_rx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIRE_MAX = 1024, RECORDS = 300 };

// Messages under way, copied as a codec would. Tokens carry spans of the sender's log, which only grows.
struct wire {
    struct msg messages[WIRE_MAX];
    uint32_t n;
};

static void put(void *ctx, link_id link, const struct msg *m) {
    struct wire *w = ctx;
    assert_true(w->n < WIRE_MAX);
    w->messages[w->n++] = *m;
}

struct pair {
    struct wire to_rx, to_tx;
    struct sink tx_sink, rx_sink;
    struct stream_tx tx;
    struct stream_rx rx;
    struct record_log *sent, *got;
    uint64_t random;
};

static const struct attempt first = {.counter = 1, .router = 7};
enum { INCARNATION = 99 };

static void pair_init(struct pair *p, uint64_t seed) {
    memset(p, 0, sizeof *p);
    p->random = seed * 2654435761u + 1;
    struct stream_key key = {.choice = 0};
    p->tx_sink = (struct sink){&p->to_rx, put};
    p->rx_sink = (struct sink){&p->to_tx, put};
    p->sent = record_log_create();
    p->got = record_log_create();
    stream_tx_init(&p->tx, &key, &first, 1, 0);
    stream_rx_init(&p->rx, &key);
    stream_rx_bind(&p->rx, &first, 1, INCARNATION);
}

static void pair_fini(struct pair *p) {
    record_log_destroy(p->sent);
    record_log_destroy(p->got);
}

static uint32_t draw(struct pair *p, uint32_t below) {
    p->random = p->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(p->random >> 33) % below;
}

static void append(struct pair *p, uint32_t token) {
    struct record r = {.token = token, .text = "ab", .text_len = token % 3};
    record_log_append(p->sent, &r);
}

static void finish(struct pair *p) {
    struct msg_done done = {.n_tokens = record_log_count(p->sent)};
    stream_tx_finish(&p->tx, &done);
}

static void to_receiver(struct pair *p, const struct msg *m, ms_t now) {
    if (m->kind == MSG_TOKENS)
        stream_rx_on_tokens(&p->rx, INCARNATION, &m->tokens, p->got, &p->rx_sink, now);
    else
        stream_rx_on_done(&p->rx, INCARNATION, &m->done, p->got, &p->rx_sink, now);
}

static void to_sender(struct pair *p, const struct msg *m, ms_t now) {
    if (m->kind == MSG_ACK)
        stream_tx_on_ack(&p->tx, &m->ack, now);
    else
        stream_tx_on_resend(&p->tx, &m->resend, p->sent, &p->tx_sink, now);
}

// Delivers what is under way with faults: each message lost, doubled, or swapped with its neighbour, with these chances in
// 100.
static void deliver(struct pair *p, struct wire *w, void (*to)(struct pair *, const struct msg *, ms_t), uint32_t lose,
                    uint32_t twice, uint32_t swap, ms_t now) {
    static struct msg batch[WIRE_MAX];
    uint32_t n = w->n;
    memcpy(batch, w->messages, n * sizeof *batch);
    w->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n && draw(p, 100) < swap) {
            struct msg t = batch[i];
            batch[i] = batch[i + 1];
            batch[i + 1] = t;
        }
        if (draw(p, 100) < lose) continue;
        to(p, &batch[i], now);
        if (draw(p, 100) < twice) to(p, &batch[i], now);
    }
}

static void assert_equal_logs(const struct pair *p) {
    assert_int_equal(record_log_count(p->got), record_log_count(p->sent));
    for (uint32_t i = 0; i < record_log_count(p->sent); i++) {
        struct record a = record_log_get(p->sent, i), b = record_log_get(p->got, i);
        assert_int_equal(a.token, b.token);
        assert_int_equal(a.text_len, b.text_len);
    }
}

static void a_stream_arrives_whole_over_a_link_that_loses_doubles_and_swaps(void **state) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        static struct pair p;
        pair_init(&p, seed);
        uint32_t lose = draw(&p, 60), twice = draw(&p, 60), swap = draw(&p, 60);
        ms_t now = 0;
        for (uint32_t turn = 0; turn < 100000 && !(p.rx.done && p.tx.done_acked); turn++, now += 20) {
            uint32_t count = record_log_count(p.sent);
            if (count < RECORDS)
                append(&p, draw(&p, 1000));
            else if (!p.tx.finished)
                finish(&p);
            stream_tx_pump(&p.tx, p.sent, &p.tx_sink, now);
            stream_tx_tick(&p.tx, p.sent, &p.tx_sink, now);
            deliver(&p, &p.to_rx, to_receiver, lose, twice, swap, now);
            stream_rx_tick(&p.rx, p.got, &p.rx_sink, now);
            deliver(&p, &p.to_tx, to_sender, lose, twice, swap, now);
            assert_true(record_log_count(p.got) <= record_log_count(p.sent));
        }
        assert_true(p.rx.done && p.tx.done_acked);
        assert_equal_logs(&p);
        pair_fini(&p);
    }
}

static void nothing_is_sent_twice_over_a_good_link(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    uint32_t tokens_messages = 0;
    for (ms_t now = 0; now < 1000; now += 10) {
        if (now < 500) append(&p, (uint32_t)now);
        if (now == 500) finish(&p);
        stream_tx_pump(&p.tx, p.sent, &p.tx_sink, now);
        stream_tx_tick(&p.tx, p.sent, &p.tx_sink, now);
        for (uint32_t i = 0; i < p.to_rx.n; i++) tokens_messages += p.to_rx.messages[i].kind == MSG_TOKENS;
        deliver(&p, &p.to_rx, to_receiver, 0, 0, 0, now);
        stream_rx_tick(&p.rx, p.got, &p.rx_sink, now);
        deliver(&p, &p.to_tx, to_sender, 0, 0, 0, now);
    }
    assert_int_equal(tokens_messages, 50);
    assert_true(p.rx.done && p.tx.done_acked);
    assert_equal_logs(&p);
    pair_fini(&p);
}

static void an_overlap_is_trimmed(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    for (uint32_t i = 0; i < 10; i++) append(&p, i);
    struct msg_tokens m = {.attempt = first, .offset = 0, .records = {.log = p.sent, .from = 0, .count = 6}};
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0), RX_EXTENDED);
    m.offset = 3, m.records.from = 3, m.records.count = 7;
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0), RX_EXTENDED);
    assert_equal_logs(&p);
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0), RX_DUPLICATE);
    pair_fini(&p);
}

static void a_gap_is_asked_for_once_until_it_is_overdue(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    for (uint32_t i = 0; i < 10; i++) append(&p, i);
    struct msg_tokens m = {.attempt = first, .offset = 5, .records = {.log = p.sent, .from = 5, .count = 5}};
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0), RX_GAP);
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 10), RX_GAP);
    assert_int_equal(p.to_tx.n, 1);
    assert_int_equal(p.to_tx.messages[0].kind, MSG_RESEND);
    assert_int_equal(p.to_tx.messages[0].resend.from, 0);
    stream_rx_tick(&p.rx, p.got, &p.rx_sink, RX_RESEND_MS + 1);
    assert_int_equal(p.to_tx.n, 2);
    pair_fini(&p);
}

static void what_is_not_of_the_bound_attempt_and_incarnation_is_stale(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    append(&p, 1);
    struct msg_tokens m = {.attempt = first, .offset = 0, .records = {.log = p.sent, .from = 0, .count = 1}};
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION + 1, &m, p.got, &p.rx_sink, 0), RX_STALE);
    m.attempt.counter = 2;
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0), RX_STALE);
    struct msg_done done = {.attempt = m.attempt};
    assert_int_equal(stream_rx_on_done(&p.rx, INCARNATION, &done, p.got, &p.rx_sink, 0), RX_STALE);
    stream_rx_unbind(&p.rx);
    m.attempt = first;
    assert_int_equal(stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0), RX_STALE);
    assert_int_equal(record_log_count(p.got), 0);
    pair_fini(&p);
}

static void done_counts_only_when_the_log_is_complete(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    struct msg_done done = {.attempt = first, .n_tokens = 2};
    assert_int_equal(stream_rx_on_done(&p.rx, INCARNATION, &done, p.got, &p.rx_sink, 0), RX_GAP);
    append(&p, 1);
    append(&p, 2);
    append(&p, 3);
    struct msg_tokens m = {.attempt = first, .offset = 0, .records = {.log = p.sent, .from = 0, .count = 2}};
    stream_rx_on_tokens(&p.rx, INCARNATION, &m, p.got, &p.rx_sink, 0);
    assert_int_equal(stream_rx_on_done(&p.rx, INCARNATION, &done, p.got, &p.rx_sink, 0), RX_DONE);
    assert_int_equal(stream_rx_on_done(&p.rx, INCARNATION, &done, p.got, &p.rx_sink, 0), RX_DUPLICATE);
    done.n_tokens = 1;
    assert_int_equal(stream_rx_on_done(&p.rx, INCARNATION, &done, p.got, &p.rx_sink, 0), RX_INVALID);
    pair_fini(&p);
}

static void a_sender_attached_to_a_new_link_goes_on_where_the_receiver_is(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    for (uint32_t i = 0; i < 10; i++) append(&p, i);
    stream_tx_pump(&p.tx, p.sent, &p.tx_sink, 0);
    stream_tx_detach(&p.tx);
    append(&p, 10);
    p.to_rx.n = 0;
    stream_tx_pump(&p.tx, p.sent, &p.tx_sink, 0);
    assert_int_equal(p.to_rx.n, 0);
    stream_tx_attach(&p.tx, 2, &first, 4);
    stream_tx_pump(&p.tx, p.sent, &p.tx_sink, 0);
    assert_int_equal(p.to_rx.n, 1);
    assert_int_equal(p.to_rx.messages[0].tokens.offset, 4);
    assert_int_equal(p.to_rx.messages[0].tokens.records.count, 7);
    stream_tx_attach(&p.tx, 3, &first, 400); // a receiver that claims more than there is
    stream_tx_pump(&p.tx, p.sent, &p.tx_sink, 0);
    assert_int_equal(p.to_rx.n, 1);
    pair_fini(&p);
}

static void a_message_is_bounded_in_records_and_bytes(void **state) {
    static struct pair p;
    pair_init(&p, 1);
    char *text = calloc(1, RECORD_TEXT_MAX);
    struct record big = {.token = 1, .text = text, .text_len = RECORD_TEXT_MAX};
    for (uint32_t i = 0; i < 10; i++) record_log_append(p.sent, &big);
    for (uint32_t i = 0; i < 1000; i++) append(&p, 0);
    stream_tx_pump(&p.tx, p.sent, &p.tx_sink, 0);
    uint32_t records = 0;
    for (uint32_t i = 0; i < p.to_rx.n; i++) {
        const struct msg_tokens *m = &p.to_rx.messages[i].tokens;
        size_t bytes = 0;
        for (uint32_t k = 0; k < m->records.count; k++) bytes += records_get(&m->records, k).text_len;
        assert_int_equal(m->offset, records);
        assert_true(m->records.count <= RECORDS_PER_FRAME && bytes <= RECORD_BYTES_PER_FRAME + RECORD_TEXT_MAX);
        records += m->records.count;
    }
    assert_int_equal(records, 1010);
    free(text);
    pair_fini(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_arrives_whole_over_a_link_that_loses_doubles_and_swaps),
        cmocka_unit_test(nothing_is_sent_twice_over_a_good_link),
        cmocka_unit_test(an_overlap_is_trimmed),
        cmocka_unit_test(a_gap_is_asked_for_once_until_it_is_overdue),
        cmocka_unit_test(what_is_not_of_the_bound_attempt_and_incarnation_is_stale),
        cmocka_unit_test(done_counts_only_when_the_log_is_complete),
        cmocka_unit_test(a_sender_attached_to_a_new_link_goes_on_where_the_receiver_is),
        cmocka_unit_test(a_message_is_bounded_in_records_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
