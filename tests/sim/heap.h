// What the program has of the heap. All of shoal-sim allocates through here (the linker wraps malloc and its kin): blocks
// are counted, so that a run can be asked to give everything back, and filled with nonsense when they are handed out and
// when they are freed, so that whoever reads what isn't there does so visibly, and the same way each time. One thread only.
#pragma once
#include <stdint.h>

uint64_t heap_blocks(void);
