#include "worker/model/quant.h"
#include <math.h>
#include <string.h>
#include "common/base/check.h"

static const char *const names[] = {[QUANT_NONE] = "", [QUANT_INT8] = "int8", [QUANT_INT4] = "int4"};

const char *quant_name(enum quant q) { return names[q]; }

err_id quant_parse(const char *text, enum quant *quant, struct error *e) {
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text == NULL ? "" : text, names[i]) != 0) continue;
        *quant = (enum quant)i;
        return ERR_NONE;
    }
    return error_set(e, ERR_INVALID_ARGUMENT, "--quant takes int8 or int4, not \"%.40s\"", text);
}

bool quant_applies(const struct model_spec *spec, enum tensor_role role) {
    switch (role) {
    case TENSOR_HEAD:
        return !spec->tied;
    case TENSOR_Q:
    case TENSOR_K:
    case TENSOR_V:
    case TENSOR_OUT:
    case TENSOR_Q_A:
    case TENSOR_Q_B:
    case TENSOR_KV_A:
    case TENSOR_GATE:
    case TENSOR_UP:
    case TENSOR_DOWN:
    case TENSOR_EXPERT_GATE:
    case TENSOR_EXPERT_UP:
    case TENSOR_EXPERT_DOWN:
    case TENSOR_SHARED_GATE:
    case TENSOR_SHARED_UP:
    case TENSOR_SHARED_DOWN:
        return true;
    default:
        return false;
    }
}

uint64_t quant_row_bytes(enum quant quant, uint64_t k) {
    return quant == QUANT_INT8 ? 4 + k : (k + QUANT_GROUP - 1) / QUANT_GROUP * QUANT_GROUP_BYTES;
}

static void row_int8(const float *w, uint64_t k, uint8_t *out) {
    float most = 0;
    for (uint64_t i = 0; i < k; i++) most = fmaxf(most, fabsf(w[i]));
    float scale = most / 127;
    memcpy(out, &scale, 4);
    for (uint64_t i = 0; i < k; i++) {
        float q = scale > 0 ? rintf(w[i] / scale) : 0;
        out[4 + i] = (uint8_t)(int8_t)fminf(127, fmaxf(-127, q));
    }
}

static void group_int4(const float *w, uint64_t n, uint8_t *out) {
    float least = w[0], most = w[0];
    for (uint64_t i = 1; i < n; i++) least = fminf(least, w[i]), most = fmaxf(most, w[i]);
    uint16_t m = dtype_to_f16(least), d = dtype_to_f16((most - dtype_f16(m)) / 15);
    memcpy(out, &d, 2);
    memcpy(out + 2, &m, 2);
    memset(out + 4, 0, QUANT_GROUP / 2);
    float step = dtype_f16(d), from = dtype_f16(m);
    for (uint64_t i = 0; i < n && step > 0; i++) {
        uint32_t q = (uint32_t)fminf(15, fmaxf(0, rintf((w[i] - from) / step)));
        out[4 + i / 2] = (uint8_t)(out[4 + i / 2] | q << (i % 2 * 4));
    }
}

void quant_row(enum quant quant, const float *w, uint64_t k, uint8_t *out) {
    if (quant == QUANT_INT8) {
        row_int8(w, k, out);
        return;
    }
    for (uint64_t i = 0; i < k; i += QUANT_GROUP, out += QUANT_GROUP_BYTES) {
        group_int4(w + i, k - i < QUANT_GROUP ? k - i : QUANT_GROUP, out);
    }
}

static void find_quantised(void *context, const struct tensor_need *n) {
    struct {
        const struct model *model;
        const struct tensor *found;
    } *f = context;
    const struct tensor *t = model_tensor(f->model, n->role, n->layer, n->expert);
    if (t != NULL && t->dtype >= DTYPE_SAFETENSORS) f->found = t;
}

err_id quant_check(const struct model *model, enum quant wanted, struct error *e) {
    struct {
        const struct model *model;
        const struct tensor *found;
    } f = {model, NULL};
    if (wanted == QUANT_NONE) return ERR_NONE;
    spec_needs(model_spec(model), 0, model_spec(model)->layers, find_quantised, &f);
    if (f.found == NULL) return ERR_NONE;
    return error_set(e, ERR_INVALID_ARGUMENT, "--quant %s: the model is quantised already (%.60s is %s); leave --quant out",
                     quant_name(wanted), f.found->name, dtype_name(f.found->dtype));
}
