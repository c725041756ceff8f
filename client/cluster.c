// What routers say of the cluster, asked of all of them at once; and word to one of its replicas.
#include "client/internal.h"

#include "common/sys/clock.h"

#include <stdio.h>

enum { CLUSTER_MS = 2000, DIALLING_MS = 300 }; // for routers to answer; to be connected at all

// Routers that are not connected are waited for only while they may still be dialling.
static bool all_answered(const struct shoal *s, bool dialling) {
    bool any = false;
    for (uint32_t i = 0; i < s->core.options.n_routers; i++) {
        if (s->views[i] == NULL && (dialling || s->core.routers[i].open)) return false;
        any |= s->views[i] != NULL;
    }
    return any;
}

static void forget_views(struct shoal *s) {
    for (uint32_t i = 0; i < ROUTERS_MAX; i++) {
        shoal_cluster_free(s->views[i]);
        s->views[i] = NULL;
    }
}

static void wait_for_views(struct shoal *s, int64_t until_ns, bool dialling) {
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    while (!s->closing && !all_answered(s, dialling))
        if (pthread_cond_timedwait(&s->view_changed, &s->lock, &until) != 0) break;
}

// Holds the turn and is counted as a caller.
static struct shoal_cluster *gather_views(struct shoal *s, uint32_t timeout_ms) {
    uint32_t dialling_ms = timeout_ms < DIALLING_MS ? timeout_ms : DIALLING_MS;
    int64_t begin_ns = clock_ns();
    pthread_mutex_lock(&s->lock);
    forget_views(s); // what is told must be news
    s->query_wanted = true;
    uv_async_send(&s->wake);
    wait_for_views(s, begin_ns + dialling_ms * INT64_C(1000000), true);
    wait_for_views(s, begin_ns + timeout_ms * INT64_C(1000000), false);
    s->query_wanted = false;
    struct shoal_cluster *all = NULL;
    for (uint32_t i = 0; i < ROUTERS_MAX && !all; i++)
        if (s->views[i]) all = view_merge(s->views, ROUTERS_MAX);
    pthread_mutex_unlock(&s->lock);
    return all;
}

void shoal_notice(struct shoal *s, const char *replica, uint32_t deadline_ms) {
    pthread_mutex_lock(&s->lock);
    s->notice = (struct msg_notice){.deadline_ms = deadline_ms};
    snprintf(s->notice.name, sizeof s->notice.name, "%s", replica);
    s->notice_wanted = replica[0] != '\0';
    pthread_mutex_unlock(&s->lock);
    uv_async_send(&s->wake);
}

int shoal_cluster(struct shoal *s, uint32_t timeout_ms, struct shoal_cluster **out, struct shoal_failure *why) {
    if (timeout_ms == 0) timeout_ms = CLUSTER_MS;
    pthread_mutex_lock(&s->lock);
    s->callers++;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&s->view_turn);
    *out = gather_views(s, timeout_ms);
    pthread_mutex_unlock(&s->view_turn);
    handle_left(s);
    if (*out) return 0;
    struct error e;
    error_set(&e, ERR_UNAVAILABLE, "no router answered within %u ms (%s)", timeout_ms, s->routers_text);
    return failure_set(why, &e, 0);
}
