#include "worker/main/group_member.h"

#include "common/sys/process.h"
#include "common/sys/version.h"
#include "worker/model/model.h"
#include "worker/model/split.h"
#include "worker/plan/plan.h"

#include <stdio.h>
#include <unistd.h>

static void mock_costs(uint32_t layers, struct layer_costs *c) {
    *c = (struct layer_costs){.layers = layers};
    for (uint32_t l = 0; l < layers; l++) c->layer[l] = 1;
}

err_id member_layers(const struct host_settings *s, const struct model *model, struct engine_opts *opts, struct error *e) {
    const struct host_group *g = &s->group;
    uint32_t bounds[SPLIT_STAGES_MAX + 1];
    struct layer_costs costs;
    if (g->layer_end > 0) {
        opts->layer_first = g->layer_first;
        opts->layer_end = g->layer_end;
        return ERR_NONE;
    }
    if (model)
        split_costs(model_spec(model), &costs);
    else
        mock_costs(opts->mock.layers, &costs);
    TRY(split_layers(&costs, g->stages, bounds, e));
    opts->layer_first = bounds[g->stage];
    opts->layer_end = bounds[g->stage + 1];
    return ERR_NONE;
}

void member_join(const struct host_settings *s, const struct model *model, const struct engine_opts *opts,
                 struct group_join *j) {
    *j = (struct group_join){.incarnation = process_random(), .pid = (uint32_t)getpid()};
    struct group_identity *w = &j->who;
    snprintf(j->name, sizeof j->name, "%s", s->name);
    snprintf(w->group, sizeof w->group, "%s", s->group.name);
    snprintf(w->build, sizeof w->build, "%s", shoal_version());
    w->stage = s->group.stage;
    w->stages = s->group.stages;
    w->plan_abi = PLAN_ABI;
    w->layer_first = opts->layer_first;
    w->layer_end = opts->layer_end;
    if (model) {
        snprintf(w->weights, sizeof w->weights, "%s quant=%u numeric=%u", model_fingerprint(model), opts->quant,
                 opts->numeric);
        w->layers = model_spec(model)->layers;
        w->hidden = model_spec(model)->hidden;
        w->vocab = model_spec(model)->vocab;
    } else {
        snprintf(w->weights, sizeof w->weights, "mock eos=%u answer=%u", opts->mock.eos, opts->mock.eos_every);
        w->layers = opts->mock.layers;
        w->vocab = opts->mock.vocab;
    }
}

uint64_t member_bytes(const struct model *model, const struct engine_opts *opts) {
    if (model == NULL) return 0;
    uint32_t end = opts->layer_end > 0 ? opts->layer_end : model_spec(model)->layers;
    return model_part(model, opts->layer_first, end).bytes;
}

err_id member_check_frame(const struct group_join *j, uint32_t step_tokens, struct error *e) {
    uint64_t bytes = (uint64_t)step_tokens * j->who.hidden * sizeof(float);
    if (bytes + 4096 <= GROUP_FRAME_MAX) return ERR_NONE;
    return error_set(e, ERR_CONFIG,
                     "the hidden states of a step of %u tokens have %llu bytes, a frame between stages at most %d: lower "
                     "--step-tokens",
                     step_tokens, (unsigned long long)bytes, GROUP_FRAME_MAX);
}
