// What a process brings into its group: which layers it holds, and its Join. The same for the leader and its followers.
#pragma once
#include "worker/group/message.h"
#include "worker/main/host.h"

// This stage's layers: as the settings say, or its part of a split that all stages compute alike. model NULL: the mock's.
err_id member_layers(const struct host_settings *s, const struct model *model, struct engine_opts *opts, struct error *e);
// opts: with this stage's layers.
void member_join(const struct host_settings *s, const struct model *model, const struct engine_opts *opts,
                 struct group_join *join);
// Bytes in the model's files of this stage's tensors; 0 for the mock.
uint64_t member_bytes(const struct model *model, const struct engine_opts *opts);
// The hidden states of the largest step must fit a frame.
err_id member_check_frame(const struct group_join *join, uint32_t step_tokens, struct error *e);

// What a worker's metrics and /readyz say of its weights and its group.
struct group_figures {
    uint64_t loads, weights_bytes;
    uint32_t stages, stage, epoch; // stages 0 or 1: no group
    bool up;
    uint64_t reforms, active_us; // leader
    uint64_t busy_us[GROUP_STAGES_MAX];
    char waiting[ERROR_TEXT_MAX]; // why it can't serve; ""
};
