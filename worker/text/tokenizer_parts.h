// What a tokenizer is made of: for the files of this room that build it (tokenizer_json.c) or run it (tokenizer.c,
// detokenizer.c).
#pragma once
#include "worker/text/added_tokens.h"
#include "worker/text/bpe.h"
#include "worker/text/decoder.h"
#include "worker/text/normalizer.h"
#include "worker/text/pretokenize.h"
#include "worker/text/tokenizer.h"
#include "worker/text/vocab.h"

enum { TOKEN_SPECIAL = 1, TOKEN_ADDED = 2 };

struct tokenizer {
    struct added_tokens raw, normalized;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct bpe bpe;
    struct decoder decoder;
    struct vocab names; // the model's vocabulary
    struct vocab added; // the added tokens' contents, by the same ids
    struct vocab forms; // of those found in normalised text that look different there: how they are spelled, and decoded
    uint8_t *flags;     // by id: TOKEN_*
    uint32_t n_ids;
    struct ids before, behind; // what ENCODE_ADD_SPECIAL puts around a text
    bool adds_bos, adds_eos;   // add_bos_token, add_eos_token of the config
    uint32_t bos, eos;
    char *bos_text, *eos_text;
};
