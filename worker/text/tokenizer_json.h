// Builds the parts of a tokenizer from the sections of tokenizer.json. Each function fills its part of *t, which the caller
// frees with tokenizer_destroy also after a failure. What is not known is refused with its name.
#pragma once
#include "worker/text/tokenizer_parts.h"
#include <jansson.h>

// section may be NULL or JSON null: no such step.
err_id tokenizer_json_normalizer(struct tokenizer *t, const json_t *section, struct error *e);
err_id tokenizer_json_pretokenizer(struct tokenizer *t, const json_t *section, struct error *e);
err_id tokenizer_json_decoder(struct tokenizer *t, const json_t *section, struct error *e);
err_id tokenizer_json_postprocessor(struct tokenizer *t, const json_t *section, struct error *e);
// Needs the pre-tokenizer, which says whether the vocabulary is over bytes.
err_id tokenizer_json_model(struct tokenizer *t, const json_t *section, struct error *e);
// Needs the model and the normalizer.
err_id tokenizer_json_added(struct tokenizer *t, const json_t *section, struct error *e);

// Shared by the section readers: {"Regex": "…"} or {"String": "…"} compiled.
err_id tokenizer_json_pattern(const json_t *object, const char *where, struct regex **out, struct error *e);
// A string of exactly one character.
err_id tokenizer_json_character(const json_t *object, const char *key, const char *where, uint32_t *out, struct error *e);
