// What the handle's files share. A handle is a client_core, its lock, and the thread that drives it.
#pragma once
#include "client/core.h"
#include "client/shoal.h"
#include "common/base/buf.h"
#include "common/net/zmq_loop.h"
#include "proto/codec.h"

#include <pthread.h>
#include <uv.h>

// One choice of a request: a call of the core, and how much of it has been told.
struct ticket {
    struct call call; // first: the core's hooks get its address
    struct shoal_call *of;
    struct ticket *next; // of the not yet begun
    bool cancelled;      // wished for; the loop does it
    // the teller's, without the lock
    uint32_t told;     // records
    uint32_t accepted; // as told
    bool stopped;      // the caller wants no more
    bool ended;        // its end has been told
};

// A request as its caller sees it. Owned by shoal_generate, or from shoal_start until its last event.
struct shoal_call {
    struct shoal *shoal;
    shoal_on_event on_event;
    void *ctx;
    struct buf body; // of all choices
    struct shoal_event event;
    uint32_t n, n_ended;
    struct ticket *tickets;
    struct shoal_failure failure; // of the first choice that failed
    bool failed;
    // with the lock
    bool dispatched; // by shoal_dispatch; else somebody waits for `changed`
    bool ready;      // in the queue of those with news
    struct shoal_call *next_ready;
    struct shoal_call *next_started, *prev_started;
    pthread_cond_t changed;
};

// tell.c: a batch of records, copied out with the lock held, because a log moves when it grows.
enum { TELL_BATCH = 64 };
struct teller {
    uint32_t n;
    struct record records[TELL_BATCH];
    struct buf text, tops;
};
bool ticket_has_news(const struct ticket *t); // with the lock held
// Tells all news of a call, without the lock, in order. True: its last event has been told.
bool tell_news(struct teller *t, struct shoal_call *c);
void teller_free(struct teller *t);
void ticket_cancel(struct ticket *t); // with the lock held

// generate.c
void call_note(struct shoal_call *c); // it has news; with the lock held
void calls_forget(struct shoal *s);   // frees those of shoal_start; no other thread is there any more
void handle_left(struct shoal *s);    // a caller goes

enum { SERVER_KEY_WORD = 512, SHUT_OUT_SIZE = 256 };

struct dialled {
    struct shoal *shoal;
    int index;
    char address[ADDRESS_SIZE];
    struct net_dealer *dealer;
};

struct shoal {
    pthread_mutex_t lock; // guards everything below but what is marked
    struct client_core core;
    struct ticket *incoming;
    uint32_t answers;                       // tickets of all calls in progress
    struct shoal_call *started;             // by shoal_start, in progress
    uint32_t n_started;                     // how many
    struct shoal_call *ready, **ready_tail; // of them with news, oldest first
    uint32_t n_ready;
    int event_fd; // readable while there are any
    bool closing;
    bool query_wanted;
    bool notice_wanted;
    struct msg_notice notice;                 // to all greeted routers
    struct shoal_cluster *views[ROUTERS_MAX]; // last answers, owned; NULL: none yet
    pthread_cond_t view_changed;
    uint32_t callers; // inside shoal_generate or shoal_cluster
    pthread_cond_t callers_gone;

    // the loop thread's, without the lock
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t timer;
    struct dialled dialled[ROUTERS_MAX];
    struct codec_arena arena;
    struct buf out;

    struct teller teller;      // shoal_dispatch's
    pthread_mutex_t view_turn; // one shoal_cluster at a time; taken before `lock`

    // fixed
    struct net_security *security; // of the links; NULL: plaintext on this host
    uint8_t servers[ROUTERS_MAX][NET_KEY_BYTES];
    uint32_t n_servers;

    char routers_given[ROUTERS_MAX * ADDRESS_SIZE];
    char routers_text[ROUTERS_MAX * ADDRESS_SIZE +
                      SHUT_OUT_SIZE]; // them, and why the last one refused us; guarded by the lock
    char tenant[NAME_SIZE];
};

int failure_set(struct shoal_failure *f, const struct error *e, uint32_t retry_after_ms); // returns -1
void draw_random(void *out, size_t n);

// request.c: checks r and turns it into a Generate; the body is appended to `body`, which *out borrows.
err_id request_read(const struct shoal_request *r, const char *tenant, struct buf *body, struct msg_generate *out,
                    struct error *e);

// keys.c: makes s->security of what the options say. s->loop is open.
err_id keys_open(const struct shoal_options *o, struct shoal *s, struct error *e);

// view.c
struct shoal_cluster *view_copy(const struct msg_cluster *m);
// Of up to n answers (NULLs are skipped) one cluster.
struct shoal_cluster *view_merge(struct shoal_cluster *const *views, uint32_t n);
