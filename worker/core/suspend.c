// A replica in several processes loses one of them: what was under way is void, the rest goes on.
#include "worker/core/suspend.h"

#include "worker/core/core.h"

#include <stdio.h>
#include <string.h>

// As many records from here make it unlikely that the stream is what the member died of; routers reckon alike.
enum { PROVEN_RECORDS = 16 };

static void give_up(struct worker_core *core, struct stream *s, const char *sentence) {
    bool computed = s->state == STREAM_LIVE && s->seq.in_flight > 0;
    bool fresh = record_log_count(s->log) - s->n_given < PROVEN_RECORDS;
    answer_lost(core, s, sentence, computed && fresh ? 1 : 0);
}

void worker_core_suspended(struct worker_core *core, const char *sentence, ms_t now) {
    core_enter(core, now);
    if (core->life == LIFECYCLE_FAILED) return;
    struct stream *s, *next;
    for (s = core->streams.first; s != NULL; s = next) { // while in_flight still says what was being computed
        next = s->next;
        bool stands = s->state == STREAM_ENDED || s->state == STREAM_OFFERED; // what they have doesn't need the engine
        if (s->known && !stands) give_up(core, s, sentence);
    }
    scheduler_abandon(&core->scheduler);
    upkeep_end(core);
    for (s = core->streams.first; s != NULL; s = next) {
        next = s->next;
        answer_settle(core, s);
    }
    scheduler_revive(&core->scheduler);
    if (core->life == LIFECYCLE_READY || core->member_leaves) {
        core->member_leaves = false;
        core->deadline_at = core->stop_at = MS_NEVER;
        core->progress = 0;
        core->life = LIFECYCLE_LOADING;
    }
    status_touch(core, STATUS_LIFE | STATUS_LOAD);
    status_now(core);
    core_leave(core);
}

void worker_core_store(struct worker_core *core, const char *store) {
    snprintf(core->options.info.store, sizeof core->options.info.store, "%s", store);
}

void worker_core_member_notice(struct worker_core *core, uint32_t deadline_ms, ms_t now) {
    core_enter(core, now);
    if (core->life == LIFECYCLE_READY || core->member_leaves) {
        core->member_leaves = true;
        lifecycle_notice(core, deadline_ms);
    }
    core_leave(core);
}

bool worker_core_member_leaves(const struct worker_core *core) { return core->member_leaves; }

bool worker_core_take_member_notice(struct worker_core *core, char name[NAME_SIZE], uint32_t *deadline_ms) {
    if (core->member_notice.name[0] == '\0') return false;
    memcpy(name, core->member_notice.name, NAME_SIZE);
    *deadline_ms = core->member_notice.deadline_ms;
    core->member_notice.name[0] = '\0';
    return true;
}

void suspend_notice(struct worker_core *core, const struct msg_notice *m) {
    bool ours = strcmp(m->name, core->options.name) == 0;
    if (ours) core->member_leaves = false;
    if (ours) lifecycle_notice(core, m->deadline_ms);
    for (uint32_t i = 0; i < core->options.n_members && !ours; i++)
        if (strcmp(m->name, core->options.members[i].name) == 0) core->member_notice = *m;
}

void worker_core_lone_step(struct worker_core *core, uint32_t us) { core->lone_step_us = us; }

void worker_core_waits(struct worker_core *core, const char *reason, ms_t now) {
    char text[REASON_SIZE];
    snprintf(text, sizeof text, "%s", reason);
    if (strcmp(core->reason, text) == 0) return;
    core_enter(core, now);
    memcpy(core->reason, text, sizeof text);
    status_touch(core, STATUS_LIFE);
    core_leave(core);
}

void worker_core_group(struct worker_core *core, uint32_t epoch, uint32_t n, const struct member *members, ms_t now) {
    core_enter(core, now);
    if (core->options.bug != WORKER_BUG_OLD_EPOCH) core->scheduler.group_epoch = epoch;
    core->options.n_members = n < MEMBERS_MAX ? n : MEMBERS_MAX;
    memcpy(core->options.members, members, core->options.n_members * sizeof *members);
    for (uint32_t i = 0; i < core->links.count; i++)
        if (core->links.links[i]->greeted) status_hello(core, core->links.links[i], false);
    core_leave(core);
}
