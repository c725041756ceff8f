// What a Hugging Face folder says in JSON files, made from a GGUF file's metadata, so that everything past this room reads a
// model one way. Known names: config.json, generation_config.json, tokenizer.json, tokenizer_config.json. Pure but for
// opening the file.
#pragma once
#include <jansson.h>
#include "common/base/buf.h"
#include "worker/gguf/gguf.h"

// The text of the document `name` of the GGUF file at path; *found = false, and no error, for any other name. out is
// appended to. ERR_MODEL_FILES or ERR_UNSUPPORTED names the metadata that is missing, wrong or not known.
err_id gguf_document(const char *path, const char *name, struct buf *out, bool *found, struct error *e);

// The makers of each; the caller owns *out.
// config.json. Architectures llama (also Mistral), qwen2, qwen3. Files of llama's hold the rows of q and k in the order of
// interleaved rope, which the config then says ("rope_interleave").
err_id gguf_config(const struct gguf *g, json_t **out, struct error *e);
err_id gguf_generation_config(const struct gguf *g, json_t **out, struct error *e);
// tokenizer.json of a byte-level ("gpt2") or SentencePiece-style ("llama") vocabulary.
err_id gguf_tokenizer(const struct gguf *g, json_t **out, struct error *e);
err_id gguf_tokenizer_config(const struct gguf *g, json_t **out, struct error *e);
