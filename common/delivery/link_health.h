// How a process judges a connection by its silence: any message proves life; silence makes a link suspect (no new work)
// after 2·RTT + suspect_ms, dead after 2·RTT + dead_ms. Both sides also promise to send something every heartbeat_ms.
#pragma once
#include "common/base/ids.h"

struct link_timers {
    uint32_t heartbeat_ms; // default 100
    uint32_t suspect_ms;   // default 300
    uint32_t dead_ms;      // default 1000
};

enum link_state { LINK_UP, LINK_SUSPECT, LINK_DEAD };

struct link_health {
    ms_t heard_at, said_at;
    uint32_t rtt_ms;
};

static inline void link_health_init(struct link_health *h, ms_t now) { *h = (struct link_health){now, now, 0}; }
static inline void link_health_heard(struct link_health *h, ms_t now) { h->heard_at = now; }
static inline void link_health_said(struct link_health *h, ms_t now) { h->said_at = now; }
static inline enum link_state link_health_state(const struct link_health *h, const struct link_timers *t, ms_t now) {
    ms_t silence = now - h->heard_at - 2 * (ms_t)h->rtt_ms;
    return silence >= t->dead_ms ? LINK_DEAD : silence >= t->suspect_ms ? LINK_SUSPECT : LINK_UP;
}
// When the state may next change or something must be said.
static inline ms_t link_health_next(const struct link_health *h, const struct link_timers *t, ms_t now) {
    ms_t say = h->said_at + t->heartbeat_ms, suspect = h->heard_at + 2 * (ms_t)h->rtt_ms + t->suspect_ms;
    ms_t dead = h->heard_at + 2 * (ms_t)h->rtt_ms + t->dead_ms, hear = now < suspect ? suspect : dead;
    return say < hear ? say : hear;
}
