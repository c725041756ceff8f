// Small tokenizers for tests, as tokenizer.json text.
#pragma once
#include "common/base/buf.h"
#include "worker/text/tokenizer.h"

// Byte-level, GPT-2's pattern, merges "h e", "l l", "he ll", "Ġ w", "1 2"; added: <s> 300 and </s> 301 special, <think> 302
// and
// </think> 303 not, <|User|> 304.
void byte_level_json(struct buf *out);
// SentencePiece style with byte fallback and a decoder that strips the first space: <unk> 0, <s> 1, </s> 2, bytes 3..258,
// then letters.
void sentencepiece_json(struct buf *out);
struct tokenizer *tokenizer_of(void (*json)(struct buf *out)); // with bos_token <s>, eos_token </s>, add_bos_token

uint64_t next_random(uint64_t *state);
