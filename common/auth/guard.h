// Who may speak to this process: its API keys, its own certificate and the list of everybody else's, kept fresh. One per
// process, on the loop's thread. Keys are read again on guard_reload (SIGHUP) and when the file or folder changes (looked at
// every second); a list that can't be read is reported and the last good one stays in force.
#pragma once
#include "common/auth/allow_list.h"
#include "common/auth/api_keys.h"
#include "common/net/security.h"
#include "common/sys/config.h"

#include <uv.h>

struct guard;

struct guard_options {
    uv_loop_t *loop;
    const struct cluster_config *config; // borrowed
    bool api_keys;                       // this process asks for API keys, if the configuration has any
    const char *certificate;             // with CURVE: its own, NAME for security.keys/NAME.cert, or a path with a '/'
    enum certificate_role role;          // that the certificate must have
    void *ctx;
    void (*changed)(void *ctx); // somebody may speak who might not, or the other way round; may be NULL
};

struct guard_stats {
    uint64_t reloads, reloads_failed; // of lists
    uint64_t refused_missing, refused_wrong,
        refused_forbidden; // HTTP requests: no key, a wrong key, a key that may not do that
};

err_id guard_create(const struct guard_options *options, struct guard **out, struct error *e);
void guard_destroy(struct guard **g); // memory goes when the loop has closed its handles
void guard_reload(struct guard *g);   // now, whatever the files' times say
struct guard_stats *guard_stats(struct guard *g);
void guard_metrics(const struct guard *g, const char *prefix, struct buf *out); // as Prometheus reads them

// --- ZeroMQ

// How its links are protected (NULL: plaintext on this host); lives as long as the guard.
const struct net_security *guard_security(const struct guard *g);
// Of a worker, for the links between the stages of its group: only workers are dialled, and only workers may connect.
const struct net_security *guard_group_security(const struct guard *g);
// Who proved this key; NULL: nobody who may speak, any more. Valid until the next reload.
const struct certificate *guard_who(const struct guard *g, const uint8_t key[CERTIFICATE_KEY_BYTES]);

// --- HTTP

// Where a listener may stand. ERR_CONFIG with a sentence that says what to set.
enum guard_listener { GUARD_API, GUARD_ADMIN, GUARD_METRICS };
err_id guard_check_listener(const struct cluster_config *c, enum guard_listener kind, const char *address, struct error *e);
// Says in the log that HTTP on this address can be read on the way, if others can reach it.
void guard_warn_plaintext_http(const char *address);
// Must /metrics be asked for with an operator's key on this listener?
bool guard_metrics_keyed(const struct cluster_config *c, enum guard_listener kind, const char *address);

struct guard_caller {
    char tenant[NAME_SIZE]; // empty: no key was asked for
    enum api_role role;
};
// Who sends a request with this Authorization header (NULL: without). ERR_UNAUTHENTICATED; *e says what to do. Without API
// keys everybody is an operator without a tenant.
err_id guard_identify(struct guard *g, const char *authorization, struct guard_caller *out, struct error *e);
// The same for what only operators may ask for, at this path: ERR_FORBIDDEN for others.
err_id guard_identify_operator(struct guard *g, const char *authorization, const char *path, struct guard_caller *out,
                               struct error *e);
// The value of WWW-Authenticate for an answer 401.
const char *guard_challenge(const char *authorization);
// May this tenant's requests use the model (by its name or an alias)? ERR_FORBIDDEN with a sentence.
bool guard_allows_model(const struct guard *g, const char *tenant, const char *model);
err_id guard_check_model(struct guard *g, const char *tenant, const char *model, struct error *e); // the same, as an answer
