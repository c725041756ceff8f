// The coverage marks (common/base/mark.h) that are linked into the simulator, and which of them its runs have hit.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

// How many differently named ones no run has hit, of those that are not rare, or with `rare` of all. Each one that few have
// hit is printed, the fewest first.
uint32_t marks_missing(bool rare, FILE *out);
uint32_t marks_count(void);
