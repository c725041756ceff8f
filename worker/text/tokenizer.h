// A tokenizer as Hugging Face's tokenizer.json describes it: text to token ids and back, for every model of the BPE families
// (byte-level: DeepSeek, Llama 3, Qwen, GPT-2; SentencePiece-style with byte fallback: Llama 2, Mistral). tokenizer.json is
// the only truth; of tokenizer_config.json only the names of the special tokens and add_bos_token/add_eos_token are read.
// Immutable after create: any number of threads may use one tokenizer at once. Pure: no files, no clock, no globals.
// The reference is PyPI's `tokenizers`; tests/e2e/test_tokenizer_conformance.py compares.
#pragma once
#include "common/base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

struct bytes { // borrowed
    const char *data;
    size_t len;
};

struct ids { // owned; zero-initialise, free with ids_free
    uint32_t *data;
    size_t len, cap;
};
void ids_push(struct ids *ids, uint32_t id);
void ids_free(struct ids *ids);

enum {
    TOKEN_NONE = 0x7FFFFFFF,   // no such token; larger than any id
    TEXT_BYTES_MAX = 64 << 20, // longest text that is encoded
    TOKEN_ID_MAX = 1 << 24,    // ids are below: refuses absurd files before they cost memory
};

// config may be {NULL, 0}. Fails with ERR_MODEL_FILES and one sentence that names what is wrong or not known.
err_id tokenizer_create(struct bytes tokenizer_json, struct bytes config_json, struct tokenizer **out, struct error *e);
void tokenizer_destroy(struct tokenizer *t); // NULL is fine

enum {
    ENCODE_PARSE_ADDED = 1, // added tokens ("<|User|>") written in the text become their ids; without it they are plain text
    ENCODE_ADD_SPECIAL = 2, // BOS and the like around it, as the post-processor says; where that adds nothing, as
                            // add_bos_token and add_eos_token in the config say
};
// Appends the ids of text to *out. Bytes that are not UTF-8 count as U+FFFD. Fails on texts over TEXT_BYTES_MAX and when a
// regular expression exceeds its match limit (ERR_INVALID_ARGUMENT); *out is then as long as before.
err_id tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags, struct ids *out,
                        struct error *e);
// Appends the text of ids to *out: always valid UTF-8. Ids that name no token have no text. See detokenizer.h for streams.
struct buf;
void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_special, struct buf *out);

uint32_t tokenizer_vocab_size(const struct tokenizer *t);                        // largest id + 1
uint32_t tokenizer_id(const struct tokenizer *t, const char *token, size_t len); // by its exact string; TOKEN_NONE
uint32_t tokenizer_bos(const struct tokenizer *t);                               // TOKEN_NONE when the config names none
uint32_t tokenizer_eos(const struct tokenizer *t);
const char *tokenizer_bos_text(const struct tokenizer *t); // "" when there is none: what templates call bos_token
const char *tokenizer_eos_text(const struct tokenizer *t);
bool tokenizer_is_special(const struct tokenizer *t, uint32_t id); // an added token marked special
bool tokenizer_is_added(const struct tokenizer *t, uint32_t id);
// The bytes that a token stands for in the middle of a text; may be part of a UTF-8 sequence. Lives as long as t.
struct bytes tokenizer_token_bytes(const struct tokenizer *t, uint32_t id);
// The token as the vocabulary spells it ("Ġthe"). Lives as long as t.
struct bytes tokenizer_token_name(const struct tokenizer *t, uint32_t id);
