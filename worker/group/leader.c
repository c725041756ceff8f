// Design notes. A ROUTER socket does not say that a peer is gone: a send to it does (NET_UNREACHABLE), and each beat is one.
// So a follower that died is found within beat_ms, one that stands still within dead_ms.
#include "worker/group/leader.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_PERIOD_MS = 10000 };

struct leader {
    struct leader_options options;
    struct net_router *router;
    uv_timer_t beat;
    uv_async_t wake;
    struct roster roster;
    struct net_identity identities[GROUP_STAGES_MAX];
    struct group_beat beats[GROUP_STAGES_MAX];
    char fingerprint[ENGINE_FINGERPRINT_MAX]; // the leader's engine's; "": not loaded yet
    struct group_ready readies[GROUP_STAGES_MAX];
    bool closing;
    int handles; // open
    uint64_t reforms, refused, garbage, stale;
    struct buf frame;
    struct log_limit garbage_log, waiting_log, refused_log;
};

static void lose(struct leader *l, uint32_t stage, const char *how);

// ---- sending ----

static bool send_to(struct leader *l, uint32_t stage, const void *data, size_t len) {
    return net_router_send(l->router, &l->identities[stage], data, len) == NET_SENT;
}

static bool say(struct leader *l, uint32_t stage, const struct group_msg *m) {
    buf_reset(&l->frame);
    group_encode(m, &l->frame);
    return send_to(l, stage, l->frame.data, l->frame.len);
}

static void refuse(struct leader *l, const struct net_identity *peer, const struct error *e, bool final) {
    struct group_msg m = {.kind = GROUP_REFUSED, .refused = {.final = final}};
    snprintf(m.refused.text, sizeof m.refused.text, "%s", error_text(e));
    buf_reset(&l->frame);
    group_encode(&m, &l->frame);
    net_router_send(l->router, peer, l->frame.data, l->frame.len);
    l->refused++;
}

// ---- forming ----

static void invite(struct leader *l, uint32_t stage, uint32_t epoch) {
    struct group_msg m = {.kind = GROUP_WELCOME};
    m.welcome = (struct group_welcome){.epoch = epoch, .limits = l->options.limits, .beat_ms = l->options.beat_ms};
    m.welcome.dead_ms = l->options.dead_ms;
    if (stage + 1 < l->roster.stages)
        snprintf(m.welcome.next, sizeof m.welcome.next, "%s", l->roster.members[stage + 1].join.address);
    if (!say(l, stage, &m)) lose(l, stage, "its connection is closed");
}

static void form_if_complete(struct leader *l) {
    if (l->closing || !roster_complete(&l->roster)) return;
    l->reforms += l->roster.epoch > 0 && l->fingerprint[0] != '\0';
    uint32_t epoch = roster_form(&l->roster);
    log_info("group_forming", "group=%s epoch=%u stages=%u", l->options.self.who.group, epoch, l->roster.stages);
    for (uint32_t s = 1; s < l->roster.stages && l->roster.forming; s++) invite(l, s, epoch);
    if (l->roster.forming) l->options.forming(l->options.ctx, epoch);
}

static void up_if_ready(struct leader *l) {
    if (!roster_is_up(&l->roster)) return;
    for (uint32_t s = 1; s < l->roster.stages; s++) {
        if (strcmp(l->readies[s].fingerprint, l->fingerprint) == 0) continue;
        struct error e = {0};
        error_set(&e, ERR_CONFIG, "the numeric class or the weights of stage %u differ from stage 0's (%s, not %s)", s,
                  l->readies[s].fingerprint, l->fingerprint);
        refuse(l, &l->identities[s], &e, true);
        lose(l, s, error_text(&e));
        return;
    }
    log_info("group_up", "group=%s epoch=%u", l->options.self.who.group, l->roster.epoch);
    l->options.waits(l->options.ctx, "");
    l->options.up(l->options.ctx);
}

void leader_self_ready(struct leader *l, uint32_t epoch, const char *fingerprint) {
    snprintf(l->fingerprint, sizeof l->fingerprint, "%s", fingerprint);
    if (roster_ready(&l->roster, 0, epoch)) up_if_ready(l);
}

static void lose(struct leader *l, uint32_t stage, const char *how) {
    char sentence[ERROR_TEXT_MAX];
    const struct group_join *j = &l->roster.members[stage].join;
    snprintf(sentence, sizeof sentence, "stage %u of group %s was lost: %s", stage, j->who.group, how);
    log_warn("group_member_lost", "group=%s stage=%u name=%s pid=%u epoch=%u reason=%s", j->who.group, stage, j->name,
             j->pid, l->roster.epoch, how);
    if (roster_lost(&l->roster, stage)) l->options.lost(l->options.ctx, sentence);
}

void leader_release(struct leader *l, uint32_t stage) {
    struct group_msg m = {.kind = GROUP_LEAVE, .leave = {.epoch = l->roster.epoch}};
    if (l->roster.members[stage].state != ROSTER_ABSENT && !say(l, stage, &m)) lose(l, stage, "its connection is closed");
}

// ---- receiving ----

static void on_join(struct leader *l, const struct net_identity *peer, const struct group_join *join) {
    struct error e = {0};
    bool broken, final;
    if (roster_join(&l->roster, join, clock_ms(), &broken, &final, &e) != ERR_NONE) {
        log_limited(&l->refused_log, LOG_PERIOD_MS, LEVEL_WARN, "group_join_refused", "group=%s stage=%u name=%s reason=%s",
                    l->options.self.who.group, join->who.stage, join->name, error_text(&e));
        refuse(l, peer, &e, final);
        return;
    }
    uint32_t stage = join->who.stage;
    l->identities[stage] = *peer;
    l->beats[stage] = (struct group_beat){0};
    log_info("group_member_joined", "group=%s stage=%u name=%s pid=%u layers=%u-%u", join->who.group, stage, join->name,
             join->pid, join->who.layer_first, join->who.layer_end - 1);
    if (broken) l->options.lost(l->options.ctx, "a stage of the group came over a new connection");
    form_if_complete(l);
}

static void on_member(struct leader *l, uint32_t stage, struct group_msg **m) {
    l->roster.members[stage].heard_at = clock_ms();
    switch ((*m)->kind) {
    case GROUP_BEAT:
        l->beats[stage] = (*m)->beat;
        break;
    case GROUP_READY:
        l->readies[stage] = (*m)->ready;
        if (roster_ready(&l->roster, stage, (*m)->ready.epoch)) up_if_ready(l);
        break;
    case GROUP_RESULT:
        if (stage + 1 == l->roster.stages && (*m)->result.epoch == l->roster.epoch && roster_is_up(&l->roster) &&
            mailbox_push(&l->options.comm->inbox, *m))
            *m = NULL;
        else
            l->stale++;
        break;
    case GROUP_PART_DONE:
        if ((*m)->part_done.epoch == l->roster.epoch && roster_is_up(&l->roster))
            l->options.part_done(l->options.ctx, stage, &(*m)->part_done);
        else
            l->stale++;
        break;
    case GROUP_NOTICE:
        l->options.noticed(l->options.ctx, stage, (*m)->notice.deadline_ms);
        break;
    default:
        l->garbage++;
        break;
    }
}

static uint32_t stage_of(const struct leader *l, const struct net_identity *peer) {
    for (uint32_t s = 1; s < l->roster.stages; s++) {
        const struct net_identity *i = &l->identities[s];
        if (l->roster.members[s].state != ROSTER_ABSENT && i->len == peer->len && memcmp(i->bytes, peer->bytes, i->len) == 0)
            return s;
    }
    return 0;
}

static void on_frame(void *ctx, const struct net_identity *peer, const void *data, size_t len) {
    struct leader *l = ctx;
    struct error e = {0};
    struct group_msg *m;
    if (l->closing) return;
    if (group_decode(data, len, &m, &e) != ERR_NONE) {
        l->garbage++;
        log_limited(&l->garbage_log, LOG_PERIOD_MS, LEVEL_WARN, "group_frame_refused", "bytes=%zu reason=%s", len,
                    error_text(&e));
        return;
    }
    uint32_t stage = stage_of(l, peer);
    if (m->kind == GROUP_JOIN) {
        on_join(l, peer, &m->join);
    } else if (stage != 0) {
        on_member(l, stage, &m);
    } else { // given up meanwhile: it should join again
        error_set(&e, ERR_UNAVAILABLE, "the group goes on without you: join again");
        refuse(l, peer, &e, false);
    }
    group_msg_free(m);
}

// ---- from the engine thread ----

static void deliver(struct leader *l, const struct outgoing *o) {
    for (uint32_t s = 1; s < l->roster.stages; s++) {
        if (o->stage != 0 && o->stage != s) continue;
        if (!roster_is_up(&l->roster) || o->epoch != l->roster.epoch) return; // of an epoch gone by
        if (!send_to(l, s, o->frame.data, o->frame.len)) lose(l, s, "its connection is closed or full");
    }
}

static void on_wake(uv_async_t *async) {
    struct leader *l = async->data;
    struct outgoing *o;
    while ((o = mailbox_pop(&l->options.comm->outbox, 0)) != NULL) {
        deliver(l, o);
        outgoing_free(o);
    }
    uint32_t stage = atomic_exchange(&l->options.comm->complaint, 0);
    if (stage != 0 && l->roster.members[stage].state != ROSTER_ABSENT) lose(l, stage, "its answers make no sense");
}

static void wake(void *ctx) { uv_async_send(ctx); }

// ---- time ----

static void on_beat(uv_timer_t *timer) {
    struct leader *l = timer->data;
    uint32_t silent;
    char waiting[ERROR_TEXT_MAX];
    while ((silent = roster_silent(&l->roster, clock_ms(), l->options.dead_ms)) != 0) lose(l, silent, "it is silent");
    for (uint32_t s = 1; s < l->roster.stages; s++) {
        struct group_msg m = {.kind = GROUP_BEAT, .beat = {.epoch = l->roster.epoch}};
        if (l->roster.members[s].state != ROSTER_ABSENT && !say(l, s, &m)) lose(l, s, "its connection is closed");
    }
    form_if_complete(l); // a member that was lost while the others were invited
    roster_explain(&l->roster, waiting);
    l->options.waits(l->options.ctx, waiting);
    if (waiting[0]) log_limited(&l->waiting_log, LOG_PERIOD_MS, LEVEL_INFO, "group_waits", "reason=%s", waiting);
}

// ---- life ----

err_id leader_create(const struct leader_options *options, struct leader **out, struct error *e) {
    struct leader *l = xcalloc(1, sizeof *l);
    l->options = *options;
    roster_init(&l->roster, &options->self);
    struct net_router_options net = {.loop = options->loop,
                                     .address = options->listen,
                                     .security = options->security,
                                     .frame_bytes_max = GROUP_FRAME_MAX,
                                     .ctx = l,
                                     .on_frame = on_frame};
    if (net_router_create(&net, &l->router, e) != ERR_NONE) {
        free(l);
        return e->id;
    }
    uv_timer_init(options->loop, &l->beat);
    uv_async_init(options->loop, &l->wake, on_wake);
    l->beat.data = l->wake.data = l;
    l->handles = 2;
    uv_timer_start(&l->beat, on_beat, options->beat_ms, options->beat_ms);
    options->comm->wake = wake;
    options->comm->wake_ctx = &l->wake;
    log_info("group_listens", "group=%s address=%s stages=%u", options->self.who.group, net_router_endpoint(l->router),
             l->roster.stages);
    *out = l;
    return ERR_NONE;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct leader *l = handle->data;
    if (--l->handles > 0) return;
    buf_free(&l->frame);
    free(l);
}

void leader_destroy(struct leader **handle) {
    struct leader *l = *handle;
    *handle = NULL;
    if (l == NULL) return;
    l->closing = true;
    net_router_destroy(&l->router);
    uv_close((uv_handle_t *)&l->beat, on_handle_closed);
    uv_close((uv_handle_t *)&l->wake, on_handle_closed);
}

const char *leader_endpoint(const struct leader *l) { return net_router_endpoint(l->router); }

void leader_view(const struct leader *l, struct leader_view *out) {
    *out = (struct leader_view){.epoch = l->roster.epoch, .stages = l->roster.stages, .up = roster_is_up(&l->roster)};
    out->reforms = l->reforms;
    out->refused = l->refused;
    out->garbage = l->garbage;
    out->stale = l->stale;
    roster_explain(&l->roster, out->waiting);
    for (uint32_t s = 0; s < l->roster.stages; s++) {
        out->members[s].present = l->roster.members[s].state != ROSTER_ABSENT;
        out->members[s].join = l->roster.members[s].join;
        out->members[s].beat = l->beats[s];
        out->members[s].ready = l->readies[s];
    }
}
