// Where the reference tokenizer library goes by tables older than Unicode 16: its normalisation forms and its idea of a mark
// are Unicode 9's, its punctuation is Unicode 8's. Whoever wants its ids needs its tables. Pure, any thread.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// Its normalisation forms leave this code point alone although newer tables give it a combining class or a decomposition, or
// compose with it: to them it is a starter, so the text on either side is normalised by itself.
bool unicode_reference_is_inert(uint32_t cp);
bool unicode_reference_is_punctuation(uint32_t cp); // P*, and ASCII's symbols
bool unicode_reference_is_mark(uint32_t cp);        // M*
