// Which layers each stage of a pipeline holds. Pure: every member of a group computes the same ranges from the same
// config.json, so a split needs no agreement, only a comparison.
#pragma once
#include "common/base/error.h"
#include "worker/model/spec.h"

enum { SPLIT_STAGES_MAX = 16 };

// What one token costs, in multiply-adds, which in a decode step is also the number of weights that are read.
struct layer_costs {
    uint32_t layers;
    double embed, head; // on the first and on the last stage
    double layer[MODEL_LAYERS_MAX];
};
// Counted from the tensors' shapes; of a mixture of experts, those that a token is routed to.
void split_costs(const struct model_spec *spec, struct layer_costs *costs);

// Stage s gets the layers [bounds[s], bounds[s + 1]), at least one. The most expensive stage is as cheap as can be; of equal
// splits, the one whose early stages are cheaper, because the leader is stage 0 and has other work too. bounds: [stages +
// 1]. ERR_CONFIG when there are more stages than layers.
err_id split_layers(const struct layer_costs *costs, uint32_t stages, uint32_t *bounds, struct error *e);

// "pp=2": two pipeline stages. ERR_CONFIG for anything else.
err_id split_parse(const char *text, uint32_t *stages, struct error *e);
// "4-11": the layers 4 to 11, both included. ERR_CONFIG for anything else; the range is not compared with a model.
err_id split_parse_layers(const char *text, uint32_t *first, uint32_t *end, struct error *e);
