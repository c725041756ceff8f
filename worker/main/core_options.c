#include "worker/main/core_options.h"

#include "common/sys/process.h"
#include "worker/main/checkpoints.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

uint32_t host_spare_slots(const struct host_settings *s) { return s->plans_in_flight > 1 ? s->max_seqs : 0; }

void core_options(const struct host_settings *s, const struct engine_opts *engine, const struct engine_mem *mem,
                  const char *store, struct worker_core_options *o) {
    memset(o, 0, sizeof *o);
    snprintf(o->name, sizeof o->name, "%s", s->name);
    snprintf(o->region, sizeof o->region, "%s", s->region);
    snprintf(o->zone, sizeof o->zone, "%s", s->zone);
    o->incarnation = process_random();
    o->n_members = 1;
    snprintf(o->members[0].name, sizeof o->members[0].name, "%s", s->name);
    o->members[0].pid = (uint32_t)getpid();
    snprintf(o->info.model, sizeof o->info.model, "%s", s->model);
    snprintf(o->info.deployment, sizeof o->info.deployment, "%s", s->deployment);
    o->info.n_aliases = s->n_aliases;
    memcpy(o->info.aliases, s->aliases, sizeof o->info.aliases);
    o->info.max_context = o->max_context = engine->context;
    o->info.max_seqs = o->max_seqs = s->max_seqs;
    o->spare_slots = host_spare_slots(s);
    const struct config_timers *t = &s->config.timers;
    o->timers = (struct link_timers){t->heartbeat_ms, t->suspect_ms, t->dead_ms};
    o->status_full_ms = t->status_ms;
    o->block_tokens = engine->block_tokens;
    o->n_blocks = mem->blocks;
    o->step_tokens = s->step_tokens;
    o->chunk_tokens = s->chunk_tokens;
    o->plans_in_flight = s->plans_in_flight;
    o->micro_batches = s->group.stages > 1 ? s->micro_batches : 1;
    o->queue_max = s->queue_max;
    _Static_assert((int)CONFIG_PREFIX_OFF == (int)PREFIX_CACHE_OFF, "the words of the configuration in the core's order");
    o->prefix_cache = (enum prefix_cache)s->config.serving.prefix_cache;
    o->prefix_salt = process_random();
    o->inter_token_ms = s->config.serving.inter_token_ms;
    o->orphan_tokens = 256;
    o->grace_ms = s->grace_ms;
    o->lease_ms = CHECKPOINT_LEASE_MS;
    snprintf(o->info.store, sizeof o->info.store, "%s", store);
    o->kept_bytes_max = s->kept_bytes_max;
}
