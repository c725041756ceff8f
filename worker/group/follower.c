#include "worker/group/follower.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log.h"
#include "worker/group/mailbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOG_PERIOD_MS = 10000,
    OUTBOX_MAX = 256,
    PARTS_MAX = 64,
    REDIAL_MS = 50,
    REDIAL_MAX_MS = 500,
    JOIN_AGAIN_MS = 300,
    HELD_MAX = 16
};

struct parcel { // a frame on its way from the engine thread
    enum stage_to to;
    uint32_t epoch;
    struct buf frame;
};

struct follower {
    struct follower_options options;
    struct net_dealer *leader, *next;
    struct net_router *before;
    char next_address[ADDRESS_SIZE];
    uv_timer_t beat;
    uv_async_t wake;
    struct mailbox outbox;         // struct parcel
    struct parcel *held[HELD_MAX]; // for the next stage, until it is dialled
    uint32_t n_held;
    struct mailbox errors; // struct error: at most one
    struct mailbox parts;  // struct group_msg: for the store
    bool noticed;
    ms_t leave_at; // noticed: the deadline; MS_NEVER: none
    struct stage *stage;
    uint32_t epoch; // that the leader said last
    bool welcome;   // in this connection
    ms_t heard_at, joined_at;
    uint64_t joins, garbage;
    char refusal[ERROR_TEXT_MAX];
    struct buf frame;
    struct log_limit garbage_log, refused_log, shut_out_log;
    bool ended;
    int handles; // open
};

// ---- sending ----

static bool say(struct follower *f, const struct group_msg *m) {
    buf_reset(&f->frame);
    group_encode(m, &f->frame);
    return net_dealer_send(f->leader, f->frame.data, f->frame.len) == NET_SENT;
}

static void join(struct follower *f) {
    struct group_msg m = {.kind = GROUP_JOIN, .join = f->options.self};
    m.join.epoch = f->epoch;
    if (f->before) snprintf(m.join.address, sizeof m.join.address, "%s", net_router_endpoint(f->before));
    f->joined_at = clock_ms();
    f->joins++;
    f->welcome = false;
    say(f, &m);
}

// The engine thread's.
static void on_stage_sends(void *ctx, enum stage_to to, uint32_t epoch, const struct group_msg *m) {
    struct follower *f = ctx;
    struct parcel *p = xcalloc(1, sizeof *p);
    p->to = to;
    p->epoch = epoch;
    group_encode(m, &p->frame);
    if (!mailbox_push(&f->outbox, p)) { // more than a leader may have asked for
        buf_free(&p->frame);
        free(p);
    }
    uv_async_send(&f->wake);
}

static void on_stage_part(void *ctx, struct group_msg *m) {
    struct follower *f = ctx;
    if (!mailbox_push(&f->parts, m)) group_msg_free(m); // more than a leader asks for; it gives up waiting for this one
    uv_async_send(&f->wake);
}

static void on_stage_failed(void *ctx, const struct error *e) {
    struct follower *f = ctx;
    struct error *copy = xcalloc(1, sizeof *copy);
    *copy = *e;
    if (!mailbox_push(&f->errors, copy)) free(copy);
    uv_async_send(&f->wake);
}

static void end(struct follower *f, int exit_code, const char *sentence) {
    if (f->ended) return;
    f->ended = true;
    f->options.ended(f->options.ctx, exit_code, sentence);
}

static void free_message(void *item) { group_msg_free(item); }

static void free_parcel(void *item) {
    struct parcel *p = item;
    buf_free(&p->frame);
    free(p);
}

// What doesn't get through breaks the epoch: the leader learns of it by a new connection.
static void deliver(struct follower *f, struct parcel *p) {
    struct net_dealer *to = p->to == STAGE_TO_LEADER ? f->leader : f->next;
    bool current = f->welcome && p->epoch == f->epoch;
    if (current && (to == NULL || net_dealer_send(to, p->frame.data, p->frame.len) != NET_SENT))
        net_dealer_redial(f->leader);
    free_parcel(p);
}

static void on_next_connected(void *ctx) {
    struct follower *f = ctx;
    for (uint32_t i = 0; i < f->n_held; i++) deliver(f, f->held[i]);
    f->n_held = 0;
}

static void on_shut_out(void *ctx, const char *why) {
    struct follower *f = ctx;
    log_limited(&f->shut_out_log, LOG_PERIOD_MS, LEVEL_WARN, "group_refused", "reason=%s", why);
}

// States may have been lost with it.
static void on_next_disconnected(void *ctx) {
    struct follower *f = ctx;
    if (f->welcome) net_dealer_redial(f->leader);
}

static void on_wake(uv_async_t *async) {
    struct follower *f = async->data;
    struct parcel *p;
    struct error *failure;
    while ((p = mailbox_pop(&f->outbox, 0)) != NULL) {
        if (p->to == STAGE_TO_NEXT && f->next && !net_dealer_is_connected(f->next) && f->n_held < HELD_MAX)
            f->held[f->n_held++] = p;
        else
            deliver(f, p);
    }
    struct group_msg *part;
    while ((part = mailbox_pop(&f->parts, 0)) != NULL) f->options.part(f->options.ctx, part);
    if ((failure = mailbox_pop(&f->errors, 0)) != NULL) {
        bool settled = failure->id == ERR_CONFIG || failure->id == ERR_MODEL_FILES;
        end(f, settled ? 2 : 1, error_text(failure));
        free(failure);
    }
}

// ---- receiving ----

static void dial_next(struct follower *f, const char *address);

static void give(struct follower *f, struct group_msg **m) {
    if (stage_take(f->stage, *m))
        *m = NULL;
    else
        net_dealer_redial(f->leader); // far more than can be under way
}

void follower_part_done(struct follower *f, struct group_msg *m) {
    const struct group_part *p = &m->part;
    bool wanted = f->welcome && p->epoch == f->epoch;
    if (wanted && m->kind == GROUP_LOAD && p->error.id == ERR_NONE) {
        give(f, &m);
    } else if (wanted) {
        struct group_msg done = {.kind = GROUP_PART_DONE, .part_done = {.epoch = p->epoch, .ticket = p->ticket}};
        done.part_done.hash = p->shard.hash;
        if (p->error.id != ERR_NONE)
            snprintf(done.part_done.failure, sizeof done.part_done.failure, "%s", error_text(&p->error));
        if (!say(f, &done)) net_dealer_redial(f->leader);
    }
    group_msg_free(m);
}

static void on_refused(struct follower *f, const struct group_msg *m) {
    snprintf(f->refusal, sizeof f->refusal, "%s", m->refused.text);
    f->welcome = false;
    if (m->refused.final) {
        char sentence[ERROR_TEXT_MAX + 64];
        snprintf(sentence, sizeof sentence, "the leader refuses this stage: %s", m->refused.text);
        end(f, 2, sentence);
        return;
    }
    log_limited(&f->refused_log, LOG_PERIOD_MS, LEVEL_WARN, "group_join_refused", "reason=%s", m->refused.text);
}

static void on_leader_frame(void *ctx, const void *data, size_t len) {
    struct follower *f = ctx;
    struct error e = {0};
    struct group_msg *m;
    f->heard_at = clock_ms();
    if (group_decode(data, len, &m, &e) != ERR_NONE) {
        f->garbage++;
        log_limited(&f->garbage_log, LOG_PERIOD_MS, LEVEL_WARN, "group_frame_refused", "bytes=%zu reason=%s", len,
                    error_text(&e));
        return;
    }
    switch (m->kind) {
    case GROUP_WELCOME:
        f->epoch = m->welcome.epoch;
        f->welcome = true;
        f->refusal[0] = '\0';
        f->options.beat_ms = m->welcome.beat_ms;
        f->options.dead_ms = m->welcome.dead_ms;
        log_info("group_welcome", "group=%s stage=%u epoch=%u", f->options.self.who.group, f->options.self.who.stage,
                 f->epoch);
        dial_next(f, m->welcome.next);
        give(f, &m);
        break;
    case GROUP_REFUSED:
        on_refused(f, m);
        break;
    case GROUP_BEAT:
        break;
    case GROUP_SLOT_OPEN:
    case GROUP_SLOT_CLOSE:
    case GROUP_PLAN:
    case GROUP_HIDDEN:
    case GROUP_TOKENS:
    case GROUP_SAVE:
    case GROUP_LOAD:
        if (f->welcome) give(f, &m);
        break;
    case GROUP_LEAVE:
        if (m->leave.epoch == f->epoch) f->options.released(f->options.ctx);
        break;
    default:
        f->garbage++;
        break;
    }
    group_msg_free(m);
}

// The stage before it says Hidden, and nothing else.
static void on_before_frame(void *ctx, const struct net_identity *peer, const void *data, size_t len) {
    struct follower *f = ctx;
    struct error e = {0};
    struct group_msg *m = NULL;
    bool good = group_decode(data, len, &m, &e) == ERR_NONE && m->kind == GROUP_HIDDEN;
    if (good && f->welcome && m->hidden.epoch == f->epoch) give(f, &m);
    f->garbage += !good;
    group_msg_free(m);
}

static void on_next_frame(void *ctx, const void *data, size_t len) { ((struct follower *)ctx)->garbage++; }

static void on_connected(void *ctx) {
    struct follower *f = ctx;
    f->heard_at = clock_ms();
    log_info("group_leader_connected", "address=%s", f->options.leader);
    join(f);
}

static void on_disconnected(void *ctx) {
    struct follower *f = ctx;
    f->welcome = false;
    log_warn("group_leader_lost", "address=%s epoch=%u", f->options.leader, f->epoch);
}

static void dial_next(struct follower *f, const char *address) {
    struct error e = {0};
    if (strcmp(address, f->next_address) == 0) return;
    snprintf(f->next_address, sizeof f->next_address, "%s", address);
    if (f->next) net_dealer_destroy(&f->next);
    if (address[0] == '\0') return;
    struct net_dealer_options net = {
        .loop = f->options.loop, .address = f->next_address, .ctx = f, .on_frame = on_next_frame};
    net.on_connected = on_next_connected;
    net.on_disconnected = on_next_disconnected;
    net.security = f->options.security;
    net.on_shut_out = on_shut_out;
    net.frame_bytes_max = GROUP_FRAME_MAX;
    net.redial_ms = REDIAL_MS;
    net.redial_max_ms = REDIAL_MAX_MS;
    if (net_dealer_create(&net, &f->next, &e) == ERR_NONE) return;
    end(f, 2, error_text(&e));
}

// ---- a notice ----

static void say_notice(struct follower *f) {
    ms_t now = clock_ms();
    if (!f->welcome || !net_dealer_is_connected(f->leader)) { // nobody's stream needs this stage
        f->options.released(f->options.ctx);
        return;
    }
    struct group_msg m = {.kind = GROUP_NOTICE, .notice = {.epoch = f->epoch}};
    if (f->leave_at != MS_NEVER) m.notice.deadline_ms = f->leave_at > now ? (uint32_t)(f->leave_at - now) : 1;
    say(f, &m);
}

void follower_notice(struct follower *f, uint32_t deadline_ms) {
    ms_t at = deadline_ms > 0 ? clock_ms() + deadline_ms : MS_NEVER;
    if (!f->noticed || at < f->leave_at) f->leave_at = at;
    f->noticed = true;
    say_notice(f);
}

// ---- time ----

static void on_beat(uv_timer_t *timer) {
    struct follower *f = timer->data;
    ms_t now = clock_ms();
    uv_timer_start(timer, on_beat, f->options.beat_ms, 0);
    if (f->noticed) say_notice(f);
    if (!net_dealer_is_connected(f->leader)) return;
    if (now - f->heard_at >= f->options.dead_ms) {
        log_warn("group_leader_silent", "address=%s", f->options.leader);
        net_dealer_redial(f->leader);
        return;
    }
    if (!f->welcome && f->refusal[0] != '\0' && now - f->joined_at >= JOIN_AGAIN_MS) join(f);
    struct stage_stats s;
    stage_stats(f->stage, &s);
    struct group_msg m = {.kind = GROUP_BEAT};
    m.beat = (struct group_beat){f->epoch, s.progress, s.busy_us, s.loads, f->options.weights_bytes};
    if (f->refusal[0] == '\0') say(f, &m);
}

// ---- life ----

static err_id open_sockets(struct follower *f, struct error *e) {
    const struct follower_options *o = &f->options;
    struct net_router_options listen = {
        .loop = o->loop, .address = o->listen, .frame_bytes_max = GROUP_FRAME_MAX, .ctx = f, .on_frame = on_before_frame};
    struct net_dealer_options dial = {.loop = o->loop, .address = o->leader, .frame_bytes_max = GROUP_FRAME_MAX, .ctx = f};
    dial.redial_ms = REDIAL_MS;
    dial.redial_max_ms = REDIAL_MAX_MS;
    listen.security = dial.security = o->security;
    dial.on_shut_out = on_shut_out;
    dial.on_frame = on_leader_frame;
    dial.on_connected = on_connected;
    dial.on_disconnected = on_disconnected;
    if (o->listen) TRY(net_router_create(&listen, &f->before, e));
    return net_dealer_create(&dial, &f->leader, e);
}

err_id follower_create(const struct follower_options *options, struct follower **out, struct error *e) {
    struct follower *f = xcalloc(1, sizeof *f);
    f->options = *options;
    uv_timer_init(options->loop, &f->beat);
    uv_async_init(options->loop, &f->wake, on_wake);
    f->beat.data = f->wake.data = f;
    f->handles = 2;
    mailbox_init(&f->outbox, OUTBOX_MAX);
    mailbox_init(&f->errors, 1);
    mailbox_init(&f->parts, PARTS_MAX);
    struct stage_options stage = options->stage;
    stage.ctx = f;
    stage.send = on_stage_sends;
    stage.part = on_stage_part;
    stage.failed = on_stage_failed;
    f->stage = stage_start(&stage);
    *out = f;
    err_id id = open_sockets(f, e);
    if (id != ERR_NONE) {
        follower_destroy(out);
        return id;
    }
    uv_timer_start(&f->beat, on_beat, options->beat_ms, 0);
    return ERR_NONE;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct follower *f = handle->data;
    if (--f->handles > 0) return;
    mailbox_fini(&f->outbox, free_parcel);
    mailbox_fini(&f->errors, free);
    mailbox_fini(&f->parts, free_message);
    for (uint32_t i = 0; i < f->n_held; i++) free_parcel(f->held[i]);
    buf_free(&f->frame);
    free(f);
}

void follower_destroy(struct follower **handle) {
    struct follower *f = *handle;
    *handle = NULL;
    if (f == NULL) return;
    stage_stop(&f->stage);
    if (f->leader) net_dealer_destroy(&f->leader);
    if (f->next) net_dealer_destroy(&f->next);
    net_router_destroy(&f->before);
    uv_close((uv_handle_t *)&f->beat, on_handle_closed);
    uv_close((uv_handle_t *)&f->wake, on_handle_closed);
}

void follower_view(const struct follower *f, struct follower_view *out) {
    *out =
        (struct follower_view){.connected = net_dealer_is_connected(f->leader), .in_group = f->welcome, .epoch = f->epoch};
    out->joins = f->joins;
    out->garbage = f->garbage;
    stage_stats(f->stage, &out->stage);
    if (!out->connected)
        snprintf(out->waiting, sizeof out->waiting, "waiting for the leader at %.100s", f->options.leader);
    else if (f->refusal[0])
        snprintf(out->waiting, sizeof out->waiting, "%s", f->refusal);
    else if (!out->in_group)
        snprintf(out->waiting, sizeof out->waiting, "waiting for the other stages of group %s", f->options.self.who.group);
    else if (out->stage.epoch != out->epoch)
        snprintf(out->waiting, sizeof out->waiting, "loading");
}
