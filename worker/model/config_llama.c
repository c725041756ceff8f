// Llama 2 and 3, and what is published in their form: DeepSeek-LLM, R1's distillations into Llama.
#include "worker/model/config_gqa.h"

static err_id map_llama(const json_t *c, struct model_spec *spec, struct error *e) {
    return gqa_map(c, &(struct gqa_traits){.bias_key = true, .mlp_bias_key = true}, spec, e);
}

const struct config_architecture config_llama_table[] = {
    {"LlamaForCausalLM", map_llama},
    {NULL, NULL},
};
