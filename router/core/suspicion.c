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
    if (h->heard_at <= s->placed_at) return now - h->heard_at < t->suspect_ms;
    if (s->generate_index != 0 && s->offer->status.generates_seen >= s->generate_index) return true;
    return h->heard_at - s->placed_at <= 2 * (ms_t)h->rtt_ms + 2 * (ms_t)t->heartbeat_ms;
}

void suspicion_blame(struct router_core *core, struct session *s, const struct candidate *c, ms_t now) {
    if (!reached(core, s, c, now)) {
        MARK(never_reached_the_dead);
        return;
    }
    suspicion_report(s, 1);
    s->suspicion.victims[0] = c->incarnation;
    struct victims *v = &core->victims;
    uint32_t last = (v->next + VICTIMS_MAX - 1) % VICTIMS_MAX;
    if (v->incarnations[last] == c->incarnation) return; // the same death, another session
    v->incarnations[v->next] = c->incarnation;
    v->next = (v->next + 1) % VICTIMS_MAX;
}

void suspicion_report(struct session *s, uint32_t kills) {
    if (kills == 0) return;
    s->suspicion.kills += kills;
    s->suspicion.deaths += kills;
    memmove(s->suspicion.victims + 1, s->suspicion.victims, (KILLS_MAX - 1) * sizeof s->suspicion.victims[0]);
    s->suspicion.victims[0] = 0;
}

bool suspicion_convicts(const struct session *s) {
    return s->suspicion.kills >= KILLS_MAX || s->suspicion.deaths >= DEATHS_MAX;
}

void suspicion_clear(struct router_core *core, struct session *s) {
    s->suspicion.kills = 0;
    memset(s->suspicion.victims, 0, sizeof s->suspicion.victims);
    if (!s->suspicion.unproven) return;
    s->suspicion.unproven = false;
    s->offer->candidate->unproven--;
    core_dirty(core, s->offer->pool);
}

static bool forget_victim(struct suspicion *x, incarnation_t incarnation) {
    for (uint32_t i = 0; i < KILLS_MAX; i++) {
        if (x->victims[i] != incarnation) continue;
        x->victims[i] = 0;
        return true;
    }
    return false;
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
        if (s->state == SESSION_ENDED || !forget_victim(&s->suspicion, incarnation)) continue;
        MARK(acquitted);
        s->suspicion.deaths--;
        if (--s->suspicion.kills == 0) suspicion_clear(core, s);
        if (s->wait.queue != &core->adjourned) continue;
        MARK(verdict_reversed);
        s->retry_at = core->now;
        session_arm(core, s);
    }
}
