// What a request can be sent to. A candidate is one process behind a link: the leader of a replica, or a peer router that
// stands for its whole region. It makes offers: one per deployment that it serves (a replica: one). A pool is all offers of
// one deployment in one region; a deployment is its pools and what is known of its requests. Names are looked up by walking
// short arrays (deployments, regions: bounded by limits.h); candidates are found through their link.
//
// Load of an offer = own + foreign. Own work is what this router placed there and has not seen ended: known exactly, with no
// delay. Foreign work is what a status shows beyond the own work that the sender had seen by then (generates_seen): other
// routers' requests, or a peer's own clients. So requests sent since the last status count at once, and requests whose Done
// has arrived stop counting at once.
#pragma once
#include "common/base/message.h"
#include "router/core/list.h"
#include "router/core/output_length.h"
#include "router/core/shares.h"
#include "router/core/wait_queue.h"

enum candidate_kind { CANDIDATE_REPLICA, CANDIDATE_PEER };
enum { CORE_DEPLOYMENTS_MAX = MODELS_MAX * DEPLOYMENTS_MAX };

struct link;
struct pool;

struct offer {
    struct candidate *candidate;
    struct pool *pool;
    struct deployment_status status; // merged from deltas
    bool usable;                     // as of the last offer_refresh()
    struct list placed;              // sessions, oldest Generate first
    uint32_t own;                    // how many
    uint64_t own_prompt, own_decode; // tokens they still need, expected
    uint32_t foreign;
    uint64_t foreign_prompt, foreign_decode;
};

struct candidate {
    struct list node; // of all candidates
    uint64_t hash;    // of its kind and name
    enum candidate_kind kind;
    incarnation_t incarnation;
    char name[NAME_SIZE], region[NAME_SIZE], zone[NAME_SIZE];
    struct router_view router; // peers
    uint32_t n_members;        // replicas
    struct member *members;    // owned
    struct link *link;
    bool suspect;
    enum lifecycle state;
    float progress;
    uint32_t eta_ms;
    char reason[REASON_SIZE]; // why it is not ready
    ms_t deadline_at;         // NOTICED, DRAINING: when it goes; MS_NEVER: not known
    uint64_t status_seq;      // of the last status taken
    uint64_t generates_sent;  // on the present link
    uint32_t unproven;        // sessions here that may have killed a worker (session.h)
    uint32_t n_offers;
    struct offer *offers[CORE_DEPLOYMENTS_MAX]; // owned
};

struct pool {
    struct deployment *deployment;
    char region[NAME_SIZE];
    bool own_region;
    uint32_t spill_after_ms;
    struct share share;
    uint32_t n_offers, offers_capacity;
    struct offer **offers;
    uint32_t usable; // offers
    struct wait_queue queue;
    bool stale;                        // rates and foreign are to be summed again
    double prefill_rate, decode_rate;  // of the usable offers: tokens per second; peers of one region count once
    double prefill_best, slot_token_s; // the fastest's prefill rate, and seconds per token of one of its slots
    double foreign_prompt, foreign_decode;
    uint64_t own_prompt, own_decode; // sums over all offers, kept with each placement
    double slowness;                 // learned: how long things take here ÷ how long the plain estimate says
    bool dirty;                      // is in the core's list of pools to dispatch
    struct pool *dirty_next;
};

struct deployment {
    char model[NAME_SIZE], name[NAME_SIZE];
    bool configured; // its share is from the configuration
    uint32_t n_aliases;
    char aliases[ALIASES_MAX][NAME_SIZE];
    uint32_t max_context;
    float bytes_per_token;
    struct share share;
    uint32_t sessions; // of this router
    uint32_t n_pools;
    struct pool *pools[REGIONS_MAX]; // owned
    struct wait_queue homeless;      // sessions that no pool can serve at present
    bool woken;                      // an offer has become usable since homeless was last looked at
    ms_t ready_at;                   // when a usable offer was last seen; MS_NEVER: never
    struct output_length lengths;
};

// Speeds assumed until a status tells better: tokens per second.
enum { PREFILL_RATE_GUESS = 2000, DECODE_RATE_GUESS = 200, BYTES_PER_TOKEN_GUESS = 4 };

double offer_prefill_rate(const struct offer *o);
double offer_decode_rate(const struct offer *o);
static inline uint32_t offer_slots(const struct offer *o) { return o->status.info.max_seqs ? o->status.info.max_seqs : 1; }
// Requests a candidate may hold at once: a few more than it has slots, so that it never waits for the router; the rest wait
// here, where they can still go elsewhere.
static inline uint32_t offer_limit(const struct offer *o) {
    uint32_t slots = offer_slots(o);
    return slots + (slots / 8 ? slots / 8 : 1);
}
static inline uint32_t offer_load(const struct offer *o) { return o->own + o->foreign; }

struct offer *offer_create(struct candidate *c, struct pool *pool);
void offer_destroy(struct offer *o);                                                  // nothing may be placed on it
struct offer *candidate_offer(const struct candidate *c, const struct deployment *d); // NULL: none
// Merges a status group by group and works out the foreign load. unseen: own sessions the sender had not seen yet.
void offer_merge(struct offer *o, const struct deployment_status *delta, uint32_t unseen);
// Works out `usable` again; true if it has just become so.
bool offer_refresh(struct offer *o, ms_t now);

struct pool *deployment_pool(const struct deployment *d, const char *region); // NULL: none yet
// Sums again if something changed; call before reading the sums.
void pool_sum(struct pool *p);
// Seconds until all that is placed or waiting here will have been done, as far as anyone knows.
double pool_wait_s(struct pool *p);
void deployment_destroy(struct deployment *d);
