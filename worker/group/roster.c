#include "worker/group/roster.h"

#include <stdio.h>
#include <string.h>

void roster_init(struct roster *r, const struct group_join *self) {
    *r = (struct roster){.stages = self->who.stages};
    r->members[0] = (struct roster_member){.state = ROSTER_JOINED, .join = *self};
}

// ---- do they fit together? ----

static err_id differ(const char *what, const char *theirs, const char *ours, struct error *e) {
    return error_set(e, ERR_CONFIG, "the %s differs: %s here, %s at the leader; start all stages of a group with the same",
                     what, theirs[0] ? theirs : "none", ours[0] ? ours : "none");
}

static err_id same_things(const struct group_identity *a, const struct group_identity *b, struct error *e) {
    char mine[32], theirs[32];
    if (strcmp(a->group, b->group) != 0) return differ("group", b->group, a->group, e);
    if (strcmp(a->build, b->build) != 0) return differ("version of shoal-worker", b->build, a->build, e);
    if (strcmp(a->weights, b->weights) != 0) return differ("model (fingerprint of its files)", b->weights, a->weights, e);
    const struct {
        const char *what;
        uint32_t ours, theirs;
    } numbers[] = {{"format of step plans", a->plan_abi, b->plan_abi},
                   {"number of stages (--parallel)", a->stages, b->stages},
                   {"number of layers", a->layers, b->layers},
                   {"hidden size", a->hidden, b->hidden},
                   {"vocabulary", a->vocab, b->vocab}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].ours == numbers[i].theirs) continue;
        snprintf(mine, sizeof mine, "%u", numbers[i].ours);
        snprintf(theirs, sizeof theirs, "%u", numbers[i].theirs);
        return differ(numbers[i].what, theirs, mine, e);
    }
    return ERR_NONE;
}

static err_id no_gap(const struct group_identity *before, const struct group_identity *behind, struct error *e) {
    if (before->layer_end == behind->layer_first) return ERR_NONE;
    return error_set(
        e, ERR_CONFIG,
        "stage %u ends before layer %u, but stage %u begins with layer %u; give all stages the same --parallel, or "
        "--layers that follow each other",
        before->stage, before->layer_end, behind->stage, behind->layer_first);
}

// With the neighbours that are there.
static err_id layers_fit(const struct roster *r, const struct group_identity *w, struct error *e) {
    const struct roster_member *before = &r->members[w->stage - 1], *behind = &r->members[w->stage + 1];
    if (w->layer_first >= w->layer_end || w->layer_end > w->layers)
        return error_set(e, ERR_CONFIG, "layers %u to %u are no range of %u", w->layer_first, w->layer_end, w->layers);
    if (before->state != ROSTER_ABSENT) TRY(no_gap(&before->join.who, w, e));
    if (w->stage + 1 < r->stages && behind->state != ROSTER_ABSENT) TRY(no_gap(w, &behind->join.who, e));
    if (w->stage + 1 == r->stages && w->layer_end != w->layers)
        return error_set(e, ERR_CONFIG, "the last stage must end with the last layer, %u, not %u", w->layers - 1,
                         w->layer_end - 1);
    return ERR_NONE;
}

// ---- coming and going ----

static bool break_up(struct roster *r) {
    bool broken = r->forming;
    r->forming = false;
    for (uint32_t s = 0; s < r->stages; s++)
        if (r->members[s].state != ROSTER_ABSENT) r->members[s].state = ROSTER_JOINED;
    return broken;
}

err_id roster_join(struct roster *r, const struct group_join *join, ms_t now, bool *broken, bool *final, struct error *e) {
    const struct group_identity *w = &join->who;
    *broken = false;
    *final = true;
    TRY(same_things(&r->members[0].join.who, w, e));
    if (w->stage == 0 || w->stage >= r->stages)
        return error_set(e, ERR_CONFIG, "stage %u can't join: the leader is stage 0, the others are 1 to %u", w->stage,
                         r->stages - 1);
    TRY(layers_fit(r, w, e));
    if (w->stage > 1 && join->address[0] == '\0')
        return error_set(e, ERR_CONFIG, "stage %u tells no address that stage %u could dial", w->stage, w->stage - 1);
    struct roster_member *m = &r->members[w->stage];
    if (m->state != ROSTER_ABSENT && m->join.incarnation != join->incarnation) {
        *final = false; // the other one may be gone without our knowing it yet
        return error_set(e, ERR_UNAVAILABLE, "stage %u of group %s is held by %s (pid %u)", w->stage, w->group, m->join.name,
                         m->join.pid);
    }
    if (m->state != ROSTER_ABSENT) *broken = break_up(r); // the same one over a new connection: messages may be lost
    *m = (struct roster_member){.state = ROSTER_JOINED, .join = *join, .heard_at = now};
    if (join->epoch > r->epoch) r->epoch = join->epoch;
    return ERR_NONE;
}

bool roster_lost(struct roster *r, uint32_t stage) {
    r->members[stage].state = ROSTER_ABSENT;
    return break_up(r);
}

bool roster_complete(const struct roster *r) {
    for (uint32_t s = 0; s < r->stages; s++)
        if (r->members[s].state != ROSTER_JOINED) return false;
    return !r->forming;
}

uint32_t roster_form(struct roster *r) {
    for (uint32_t s = 0; s < r->stages; s++) r->members[s].state = ROSTER_INVITED;
    r->forming = true;
    return ++r->epoch;
}

bool roster_ready(struct roster *r, uint32_t stage, uint32_t epoch) {
    if (!r->forming || epoch != r->epoch || r->members[stage].state != ROSTER_INVITED) return false;
    r->members[stage].state = ROSTER_READY;
    return true;
}

bool roster_is_up(const struct roster *r) {
    for (uint32_t s = 0; s < r->stages; s++)
        if (r->members[s].state != ROSTER_READY) return false;
    return true;
}

uint32_t roster_silent(const struct roster *r, ms_t now, uint32_t dead_ms) {
    for (uint32_t s = 1; s < r->stages; s++)
        if (r->members[s].state != ROSTER_ABSENT && now - r->members[s].heard_at >= dead_ms) return s;
    return 0;
}

void roster_explain(const struct roster *r, char text[ERROR_TEXT_MAX]) {
    const char *group = r->members[0].join.who.group;
    text[0] = '\0';
    for (uint32_t s = 1; s < r->stages; s++) {
        if (r->members[s].state == ROSTER_ABSENT) {
            snprintf(text, ERROR_TEXT_MAX, "waiting for stage %u of group %s", s, group);
            return;
        }
    }
    for (uint32_t s = 0; s < r->stages; s++) {
        if (r->members[s].state == ROSTER_READY) continue;
        snprintf(text, ERROR_TEXT_MAX, "stage %u of group %s is loading", s, group);
        return;
    }
}
