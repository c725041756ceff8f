#include "worker/core/waiting.h"

#include "common/base/check.h"
#include "common/base/mark.h"
#include "worker/core/slots.h"

static void insert_before(struct waiting *w, struct sequence *seq, struct sequence *at) { // at NULL: last
    seq->next = at;
    seq->prev = at ? at->prev : w->last;
    *(seq->prev ? &seq->prev->next : &w->first) = seq;
    *(at ? &at->prev : &w->last) = seq;
    seq->state = SEQUENCE_WAITING;
    w->n++;
}

static bool had_slot(const struct sequence *seq) { return seq->age != SEQUENCE_AGE_NONE; }

// The one behind all that `seq` may not go ahead of.
static struct sequence *place_of(struct waiting *w, const struct sequence *seq) {
    struct sequence *at = NULL;
    for (struct sequence *before = w->last; before != NULL; before = before->prev) {
        bool yields = before->priority < seq->priority;
        if (before->priority == seq->priority) {
            if (had_slot(seq)) {
                yields = !had_slot(before) || before->age > seq->age;
            } else if (seq->resumed) {
                yields = !before->resumed && !had_slot(before) && before->overtaken < OVERTAKEN_MAX;
                if (yields) {
                    MARK(resumed_overtakes);
                    before->overtaken++;
                }
            }
        }
        if (!yields) break;
        at = before;
    }
    return at;
}

void waiting_add(struct waiting *w, struct sequence *seq) {
    struct sequence *at = place_of(w, seq);
    if (had_slot(seq) && at != w->first) RARE_MARK(waits_behind_older_ones);
    insert_before(w, seq, at);
}

void waiting_remove(struct waiting *w, struct sequence *seq) {
    *(seq->prev ? &seq->prev->next : &w->first) = seq->next;
    *(seq->next ? &seq->next->prev : &w->last) = seq->prev;
    seq->prev = seq->next = NULL;
    w->n--;
}

struct sequence *waiting_next(const struct waiting *w, const struct fair *fair, bool (*may)(void *ctx, struct sequence *seq),
                              void *ctx) {
    struct sequence *best = NULL;
    for (struct sequence *seq = w->first; seq != NULL; seq = seq->next) {
        if (best != NULL && seq->priority < best->priority) break;
        if (best != NULL && fair_counter(fair, seq->account) >= fair_counter(fair, best->account)) continue;
        if (!may(ctx, seq)) continue;
        if (had_slot(seq) || seq->resumed) return best == NULL ? seq : best;
        best = seq;
    }
    return best;
}

void waiting_check(const struct waiting *w) {
    uint32_t n = 0;
    const struct sequence *before = NULL;
    for (const struct sequence *seq = w->first; seq != NULL; before = seq, seq = seq->next, n++) {
        CHECK(seq->state == SEQUENCE_WAITING && seq->prev == before && seq->slot == SLOT_NONE && seq->n_blocks == 0);
        if (before == NULL) continue;
        CHECK(before->priority >= seq->priority);
        if (before->priority == seq->priority && had_slot(seq)) CHECK(before->age < seq->age); // those first, by age
    }
    CHECK(n == w->n && w->last == before);
}
