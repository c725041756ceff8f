// Scripted links of a world: nothing answers by itself, the test says each message and looks at what the core said.
#pragma once
#include "tests/unit/router/core/world.h"

// A world whose invariants are checked after each message.
void script_world(struct world *w);
link_id world_script(struct world *w, enum role role, const char *name, const char *region, bool dialled);
link_id world_script_as(struct world *w, enum role role, const char *name, const char *region, bool dialled,
                        incarnation_t incarnation);
void world_say(struct world *w, link_id link, const struct msg *m);
// The last message of this kind said to that link since the last world_forget(), or NULL; and how many.
const struct captured *world_heard(const struct world *w, link_id link, enum msg_kind kind);
uint32_t world_count(const struct world *w, link_id link, enum msg_kind kind);
void world_forget(struct world *w);
void world_say_ready(struct world *w, link_id link, const char *model, uint32_t max_seqs, uint64_t seq);

// --- a replica's half, in short: it is ready with max_seqs slots for model "m"
link_id script_worker(struct world *w, const char *name, uint32_t max_seqs);
// The last Generate that went to a link, or NULL.
const struct msg_generate *script_generate(const struct world *w, link_id link);
void script_accepted(struct world *w, link_id link, const struct msg_generate *g);
void script_tokens(struct world *w, link_id link, const struct msg_generate *g, uint32_t offset, uint32_t n);
void script_done(struct world *w, link_id link, const struct msg_generate *g, uint32_t n);
void script_rejected(struct world *w, link_id link, const struct msg_generate *g, err_id id, uint32_t kills);
// Tokens from `have` on, and Done at `total`.
void script_finish(struct world *w, link_id worker, const struct msg_generate *g, uint32_t have, uint32_t total);
// A Generate as a client sends it.
struct msg script_client_generate(uint8_t id);
