// Quantising matrices that a checkpoint holds in full: at load, or once and for all into a folder (shoal-model quantize).
// What is quantised are the projections of attention, the MLPs and an untied head; embedding, router, norms and MLA's kv_b
// stay.
//
//   int8  a row (output channel) is its scale s as fp32, then k int8: an element is q s, s = max|w| / 127
//   int4  a row is groups of 64: d and m as fp16, then 32 bytes of nibbles, the even element's lower one: q d + m, so that
//         the group's least and greatest are at its ends; the last group of a row may be shorter, its spare nibbles are 0
//
// In a folder each such tensor is U8 [rows][bytes of a row], and config.json says {"quantization_config": {"quant_method":
// "shoal", "format": "int8"}}.
#pragma once
#include "worker/model/model.h"

enum { QUANT_GROUP = 64, QUANT_GROUP_BYTES = 4 + QUANT_GROUP / 2 };

// "int8", "int4"; NULL or "" is none. ERR_INVALID_ARGUMENT otherwise.
err_id quant_parse(const char *text, enum quant *quant, struct error *e);
const char *quant_name(enum quant quant); // "" for none
bool quant_applies(const struct model_spec *spec, enum tensor_role role);
uint64_t quant_row_bytes(enum quant quant, uint64_t k);
// k elements into quant_row_bytes bytes. Every value must be finite.
void quant_row(enum quant quant, const float *w, uint64_t k, uint8_t *out);
// ERR_INVALID_ARGUMENT when the model is quantised already by its own files.
err_id quant_check(const struct model *model, enum quant wanted, struct error *e);
