// An opened model, a Hugging Face folder or a GGUF file: the spec of its config.json, its tensors, and what
// generation_config.json recommends. Opening checks everything that running relies on: each tensor that the spec calls for
// is there with its shape and a dtype that can be read. Read-only after that; may be shared by threads.
#pragma once
#include <stdbool.h>
#include "common/base/error.h"
#include "worker/model/safetensors.h"
#include "worker/model/spec.h"

struct model;

// What the model's makers recommend for sampling; a request's own values go before.
struct model_generation {
    bool do_sample;
    float temperature, top_p; // 1 when not given
    uint32_t top_k;           // 0 = off
    float repetition_penalty;
};

// ERR_MODEL_FILES or ERR_UNSUPPORTED, one sentence that names the file and what was expected; missing and misshapen tensors
// are told together.
err_id model_open(const char *folder, struct model **model, struct error *e);
// As model_open, but without tensors: config.json and generation_config.json alone.
err_id model_open_config(const char *folder, struct model **model, struct error *e);
void model_close(struct model **model);
// ERR_MODEL_FILES: a file was cut off or its disk failed since it was opened, and zeros were read. To be asked after reading
// tensors.
err_id model_check(const struct model *model, struct error *e);

// The folder it was opened from, as an absolute path where that can be told.
const char *model_folder(const struct model *model);
const struct model_spec *model_spec(const struct model *model);
const struct model_generation *model_generation(const struct model *model);
// The tensor in this role; NULL only for a role that the spec doesn't call for.
const struct tensor *model_tensor(const struct model *model, enum tensor_role role, uint32_t layer, uint32_t expert);
// What the layers [first, end) need: how many tensors and their bytes in the files (embedding and head as spec_needs says; a
// tied head counts the embedding again when it is on another stage). Stages that split the layers hold all of them, each
// once.
struct model_part {
    uint64_t tensors, bytes;
};
struct model_part model_part(const struct model *model, uint32_t first, uint32_t end);
// A sentence about tensors that the checkpoint has and the spec doesn't call for (but a multi-token-prediction layer and
// rope leftovers, which are known), or NULL.
const char *model_note(const struct model *model);
// 32 hexadecimal digits over the weights (tensor_set_fingerprint) and the config; empty without tensors.
const char *model_fingerprint(const struct model *model);
