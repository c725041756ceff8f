// The coverage marks (common/base/mark.h) that are linked into the simulator, and which of them its runs have hit.
#pragma once
#include <stdint.h>
#include <stdio.h>

// How many differently named ones no run has hit. A line for each mark to out, the rarest first; NULL: none.
uint32_t marks_missing(FILE *out);
uint32_t marks_count(void);
