#include "router/front/feed.h"

#include "common/base/check.h"
#include "router/front/call.h"

#include <stdlib.h>

static void add(struct feed *feed, struct choice *c) {
    c->next_reader = feed->readers;
    feed->readers = c;
}

// A session that ran on without a client, or has ended, tells nothing by itself any more.
static void catch_up(struct feed *feed) {
    struct session_view v = session_view(feed->session);
    if (v.state == SESSION_RUNNING || record_log_count(v.log) > 0) feed->accepted = true;
    if (v.state == SESSION_ENDED && feed->state == FEED_RUNNING) {
        feed->state = FEED_DONE;
        feed->accepted = true;
    }
}

struct feed *feed_open(struct router_core *core, const struct msg_generate *g, const struct comeback *back, struct choice *c,
                       struct msg_rejected *rejected, ms_t now) {
    struct feed *feed = xcalloc(1, sizeof *feed);
    feed->session = back->by_name ? router_core_resume(core, g, &back->how, feed, rejected, now)
                                  : router_core_submit(core, g, feed, rejected, now);
    if (feed->session == NULL) {
        free(feed);
        return NULL;
    }
    struct feed *there = session_user(feed->session);
    if (there != feed) {
        free(feed);
        feed = there;
    } else {
        catch_up(feed);
    }
    add(feed, c);
    return feed;
}

static void take_out(struct feed *feed, struct choice *c) {
    struct choice **at = &feed->readers;
    while (*at != c) at = &(*at)->next_reader;
    *at = c->next_reader;
}

void feed_forget(struct feed *feed, struct choice *c) {
    take_out(feed, c);
    if (feed->readers == NULL) free(feed);
}

void feed_leave(struct router_core *core, struct feed *feed, struct choice *c, ms_t now) {
    take_out(feed, c);
    if (feed->readers) return;
    if (feed->state == FEED_RUNNING)
        router_core_cancel(core, feed->session, now);
    else
        router_core_release(core, feed->session, now);
    free(feed);
}

void feed_event(struct feed *feed, enum session_event event) {
    if (event != SESSION_FAILED) feed->accepted = true;
    if (event == SESSION_DONE) feed->state = FEED_DONE;
    if (event == SESSION_FAILED) feed->state = FEED_FAILED;
    for (struct choice *c = feed->readers; c != NULL; c = c->next_reader) call_wake(c->call);
}
