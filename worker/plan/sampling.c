#include "worker/plan/sampling.h"

void sampling_params_default(struct sampling_params *p) {
    *p = (struct sampling_params){.temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1};
}
