// Splitting layers into stages: costs by counting, bounds by dynamic programming over (stages, layers).
#include "worker/model/split.h"
#include <float.h>
#include <stdlib.h>
#include <string.h>

struct counting {
    const struct model_spec *spec;
    struct layer_costs *costs;
};

static void count(void *context, const struct tensor_need *n) {
    const struct counting *c = context;
    double weights = (double)n->rows * (n->cols > 0 ? n->cols : 1);
    const struct mlp_spec *m = &c->spec->layer[n->layer].mlp;
    switch (n->role) {
    case TENSOR_EMBED:
        c->costs->embed = n->cols; // one row of it
        break;
    case TENSOR_FINAL_NORM:
    case TENSOR_HEAD:
        c->costs->head += weights;
        break;
    case TENSOR_EXPERT_GATE:
    case TENSOR_EXPERT_UP:
    case TENSOR_EXPERT_DOWN:
        c->costs->layer[n->layer] += weights * m->top_k / m->experts;
        break;
    default:
        c->costs->layer[n->layer] += weights;
        break;
    }
}

void split_costs(const struct model_spec *spec, struct layer_costs *costs) {
    struct counting c = {spec, costs};
    *costs = (struct layer_costs){.layers = spec->layers};
    spec_needs(spec, 0, spec->layers, count, &c);
    if (spec->tied) costs->head += (double)spec->vocab * spec->hidden;
}

static double range_cost(const struct layer_costs *c, uint32_t first, uint32_t end) {
    double cost = (first == 0 ? c->embed : 0) + (end == c->layers ? c->head : 0);
    for (uint32_t l = first; l < end; l++) cost += c->layer[l];
    return cost;
}

// The least that the most expensive of `stages` stages can cost. best[l]: over the layers [l, layers), with one stage more
// in every round.
static double least_cost(const struct layer_costs *c, uint32_t stages) {
    double best[MODEL_LAYERS_MAX + 1];
    for (uint32_t l = 0; l <= c->layers; l++) best[l] = l < c->layers ? range_cost(c, l, c->layers) : DBL_MAX;
    for (uint32_t s = 1; s < stages; s++) {
        for (uint32_t first = 0; first < c->layers; first++) {
            double least = DBL_MAX;
            for (uint32_t end = first + 1; end < c->layers; end++) {
                double mine = range_cost(c, first, end), most = mine > best[end] ? mine : best[end];
                if (most < least) least = most;
            }
            best[first] = least; // best[end], end > first, are still those of one stage less
        }
    }
    return best[0];
}

err_id split_layers(const struct layer_costs *c, uint32_t stages, uint32_t *bounds, struct error *e) {
    if (stages == 0 || stages > SPLIT_STAGES_MAX || stages > c->layers)
        return error_set(e, ERR_CONFIG, "%u pipeline stages were asked for; a model of %u layers can have 1 to %u", stages,
                         c->layers, c->layers < SPLIT_STAGES_MAX ? c->layers : SPLIT_STAGES_MAX);
    double most = least_cost(c, stages) * (1 + 1e-9); // sums of the same numbers in another order
    bounds[stages] = c->layers;
    for (uint32_t s = stages - 1; s > 0; s--) {
        uint32_t first = bounds[s + 1] - 1;
        while (first > s && range_cost(c, first - 1, bounds[s + 1]) <= most) first--;
        bounds[s] = first;
    }
    bounds[0] = 0;
    return ERR_NONE;
}

// Digits up to `stop`; NULL: there are none, or the number is past max.
static const char *read_number(const char *p, char stop, uint32_t max, uint32_t *out) {
    char *end;
    if (*p < '0' || *p > '9') return NULL;
    unsigned long v = strtoul(p, &end, 10);
    if (*end != stop || v > max) return NULL;
    *out = (uint32_t)v;
    return end;
}

err_id split_parse(const char *text, uint32_t *stages, struct error *e) {
    bool pp = strncmp(text, "pp=", 3) == 0;
    if (pp && read_number(text + 3, '\0', SPLIT_STAGES_MAX, stages) != NULL && *stages > 0) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "parallel must be pp=N, N pipeline stages from 1 to %d, not '%.60s'", SPLIT_STAGES_MAX,
                     text);
}

err_id split_parse_layers(const char *text, uint32_t *first, uint32_t *end, struct error *e) {
    const char *dash = read_number(text, '-', MODEL_LAYERS_MAX - 1, first);
    uint32_t last = 0;
    if (dash != NULL && read_number(dash + 1, '\0', MODEL_LAYERS_MAX - 1, &last) != NULL && last >= *first) {
        *end = last + 1;
        return ERR_NONE;
    }
    return error_set(e, ERR_CONFIG, "layers must be a range like 4-11 (both included, from 0), not '%.60s'", text);
}
