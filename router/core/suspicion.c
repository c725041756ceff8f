#include "router/core/suspicion.h"

#include "common/base/mark.h"
#include "router/core/core.h"

#include <string.h>

// Did the request get there? Its statuses say how many it has seen, within a heartbeat or two. One that was heard for longer
// without saying so never got it: the way there was cut. One that fell silent sooner may have died of it at once.
static bool reached(const struct router_core *core, const struct session *s, const struct candidate *c, ms_t now) {
    const struct link_timers *t = &core->options.timers;
    const struct link_health *h = &c->link->health;
    if (s->answered) return true;
    if (now <= s->placed_at) return false;
    if (h->heard_at <= s->placed_at) return now - h->heard_at <= 2 * (ms_t)h->rtt_ms + (ms_t)t->heartbeat_ms;
    if (s->generate_index != 0 && s->offer->status.generates_seen >= s->generate_index) return true;
    return h->heard_at - s->placed_at <= 2 * (ms_t)h->rtt_ms + 2 * (ms_t)t->heartbeat_ms;
}

static void note_loss(struct suspicion *x, incarnation_t worker, bool kill) {
    if (x->deaths == DEATHS_MAX) return;
    x->lost[x->deaths].worker = worker;
    x->lost[x->deaths++].kill = kill;
    x->kills += kill;
}

static bool newcomer(const struct session *s, const struct candidate *c) {
    uint32_t sessions = 0;
    for (uint32_t i = 0; i < c->n_offers; i++) sessions += c->offers[i]->own;
    return sessions == 1 || record_log_count(s->log) - s->placed_with < MATURE_RECORDS;
}

void suspicion_blame(struct router_core *core, struct session *s, const struct candidate *c, ms_t now) {
    if (!reached(core, s, c, now)) {
        MARK(never_reached_the_dead);
        return;
    }
    note_loss(&s->suspicion, c->incarnation, newcomer(s, c));
    struct victims *v = &core->victims;
    uint32_t last = (v->next + VICTIMS_MAX - 1) % VICTIMS_MAX;
    if (v->incarnations[last] == c->incarnation) return; // the same death, another session
    v->incarnations[v->next] = c->incarnation;
    v->next = (v->next + 1) % VICTIMS_MAX;
}

void suspicion_report(struct session *s, uint32_t kills) {
    for (uint32_t i = 0; i < kills && i < DEATHS_MAX; i++) note_loss(&s->suspicion, 0, true);
}

bool suspicion_convicts(const struct session *s) {
    return s->suspicion.kills >= KILLS_MAX || s->suspicion.deaths >= DEATHS_MAX;
}

void suspicion_clear(struct router_core *core, struct session *s) {
    s->suspicion.kills = 0;
    for (uint32_t i = 0; i < s->suspicion.deaths; i++) s->suspicion.lost[i].kill = false;
    if (!s->suspicion.unproven) return;
    s->suspicion.unproven = false;
    s->offer->candidate->unproven--;
    core_dirty(core, s->offer->pool);
}

static bool found_alive(struct suspicion *x, incarnation_t worker) {
    uint32_t i = 0;
    while (i < x->deaths && x->lost[i].worker != worker) i++;
    if (i == x->deaths) return false;
    x->kills -= x->lost[i].kill;
    x->deaths--;
    memmove(x->lost + i, x->lost + i + 1, (x->deaths - i) * sizeof x->lost[0]);
    return true;
}

void suspicion_acquit(struct router_core *core, incarnation_t incarnation) {
    bool missed = false;
    for (uint32_t i = 0; i < VICTIMS_MAX; i++) {
        if (core->victims.incarnations[i] != incarnation) continue;
        core->victims.incarnations[i] = 0;
        missed = true;
    }
    if (!missed) return;
    LIST_FOREACH(node, &core->session_list) {
        struct session *s = LIST_ENTRY(node, struct session, node);
        if (s->state == SESSION_ENDED || !found_alive(&s->suspicion, incarnation)) continue;
        MARK(acquitted);
        if (s->suspicion.kills == 0) suspicion_clear(core, s);
        if (s->wait.queue != &core->adjourned) continue;
        RARE_MARK(verdict_reversed);
        s->retry_at = core->now;
        session_arm(core, s);
    }
}
