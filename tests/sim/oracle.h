// The judge. It knows nothing of the cores: it sees what clients asked and what they got, and the fake engine's own log of
// what each life of a stream in a worker (an "instance") computed. Rules:
//   - every request ends exactly once, for an allowed reason;
//   - token i arrives after token i-1, once, and carries the mark of the instance that made it; that instance had been made
//   for
//     the attempt then current, and had computed it from exactly the prefix that the client holds;
//   - the engine reads from its blocks exactly the sequence it was given; records are made once each, in order, of the
//   tokens
//     that were sampled;
//   - a complete answer says how long it is, ends for a reason that its last token bears out, and without salt equals that
//   of an
//     undisturbed run.
#pragma once
#include "common/base/message.h"
#include "tests/sim/request.h"

struct world;
struct oracle;
struct instance;

enum outcome {
    OUTCOME_NONE,
    OUTCOME_DONE,
    OUTCOME_FAILED,      // by the cluster: with an error
    OUTCOME_CANCELLED,   // by its client
    OUTCOME_ROUTER_DIED, // under an HTTP client
    OUTCOME_CLIENT_DIED,
    OUTCOME_COUNT
};

struct oracle *oracle_create(struct world *w);
void oracle_destroy(struct oracle *o);

// --- clients
void oracle_asked(struct oracle *o, const struct request *r); // r lives as long as the oracle
// A seed that the client did not give, as it learned it.
void oracle_seed(struct oracle *o, const struct request *r, uint64_t seed);
// attempt: the one that is current for this client. replica: that serves it now; NULL for a client on a link, which may be
// sent records that its router got in earlier attempts.
void oracle_got(struct oracle *o, const struct request *r, uint32_t index, const struct record *record,
                const struct attempt *attempt, const char *replica);
uint32_t oracle_got_count(const struct oracle *o, const struct request *r);
// A client that came back is shown a record that it has.
void oracle_got_again(struct oracle *o, const struct request *r, uint32_t index, const struct record *record);
void oracle_done(struct oracle *o, const struct request *r, const struct msg_done *done);
void oracle_failed(struct oracle *o, const struct request *r, const struct error *e);
void oracle_gave_up(struct oracle *o, const struct request *r,
                    enum outcome outcome); // the client's doing, or its router's death
bool oracle_ended(const struct oracle *o, const struct request *r);
uint32_t oracle_open(const struct oracle *o); // requests that have not ended
const struct request *oracle_an_open_one(const struct oracle *o);
uint32_t oracle_count(const struct oracle *o, enum outcome outcome);
uint32_t oracle_failed_count(const struct oracle *o, err_id id);

// --- the engine's log. Instances are numbered from 1; the number is in the text of each record that one makes.
struct instance *oracle_instance(struct oracle *o, const struct request *r, const struct msg_generate *g, const char *worker,
                                 const char *fingerprint, uint64_t salt);
const struct request *instance_request(const struct instance *i);
uint64_t instance_seed(const struct instance *i);
uint64_t instance_salt(const struct instance *i);
// The checkpoint that its Generate names, in the store of its worker; "": none.
void instance_set_handle(struct instance *i, const char *handle);
const char *instance_handle(const struct instance *i);
const uint32_t *instance_tokens(const struct instance *i, uint32_t *n); // of prompt and records
// A slot was opened for it with these tokens.
void oracle_opened(struct oracle *o, struct instance *i, const uint32_t *tokens, uint32_t n, uint32_t n_prompt);
// The engine sampled `token` for `position` from what it read in the blocks.
void oracle_sampled(struct oracle *o, struct instance *i, uint32_t position, uint64_t context, uint32_t token);
// What the engine would read for this position, too, when it samples.
void oracle_holds(struct oracle *o, const struct instance *i, uint32_t position, uint64_t context);
// The worker turns it into record `index`; fills *out.
void oracle_recorded(struct oracle *o, struct instance *i, uint32_t index, uint32_t token, struct record *out);
uint32_t instance_tail(struct instance *i, const char **text); // held-back text
void oracle_released(struct oracle *o, struct instance *i);
void oracle_bereaved(struct oracle *o, struct instance *i); // a member of its worker died, and may come back without it
void oracle_died(struct oracle *o, struct instance *i);     // with its worker, which it may have killed
