// The alphabet of byte-level BPE: every byte has a printable character that stands for it in a vocabulary ("Ġ" is a space).
// GPT-2's rule: the bytes '!'..'~', 0xA1..0xAC and 0xAE..0xFF stand for themselves; the others are, in order, U+0100,
// U+0101, …
#pragma once
#include "common/base/buf.h"
#include <stdbool.h>
#include <stddef.h>

uint32_t byte_level_char(unsigned char byte);
int byte_level_byte(uint32_t cp); // -1: not in the alphabet
// Appends the characters for these bytes.
void byte_level_encode(const char *s, size_t n, struct buf *out);
// Appends the bytes for these characters; false, and *out as before, when one is not in the alphabet.
bool byte_level_decode(const char *s, size_t n, struct buf *out);
