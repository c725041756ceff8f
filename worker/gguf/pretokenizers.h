// The pre-tokenizer kinds that "tokenizer.ggml.pre" names, in the form of tokenizer.json. The expressions are those of the
// models' own tokenizer.json files.
#pragma once
#include <jansson.h>
#include "worker/gguf/gguf.h"

struct pretokenizer_kind {
    const char *name;
    const char *pattern;          // NULL: GPT-2's, which ByteLevel has
    bool digits;                  // every \p{N} alone, before it
    bool nfc;                     // normalised first
    bool ignore_merges, adds_bos; // what the model's own files say where the metadata doesn't
};

// ERR_UNSUPPORTED names the kinds that there are.
err_id pretokenizer_find(struct gguf_text name, const struct pretokenizer_kind **kind, struct error *e);
json_t *pretokenizer_json(const struct pretokenizer_kind *kind);
