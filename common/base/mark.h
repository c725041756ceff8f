// Coverage marks: MARK(name) at a branch that matters says that a run has been there. The simulator lists all marks that are
// linked into it and which of them a run has hit; one that no seed hits means that a fault or a check is missing. A name may
// stand in several places, which then count as one. In a build without tests a mark compiles to nothing.
//
// Each MARK is a counter and an entry in a section of its own, which the linker gathers: no list to keep. Counting is
// relaxed, since libshoal runs delivery on several threads; a lost count doesn't matter.
#pragma once
#include <stdint.h>

struct mark {
    const char *name;
    uint32_t hits;
};

#ifdef SHOAL_MARKS
#define MARK(id)                                                                                                            \
    do {                                                                                                                    \
        static struct mark mark_##id = {#id, 0};                                                                            \
        static struct mark *const entry_##id __attribute__((section("shoal_marks"), used)) = &mark_##id;                    \
        uint32_t hits_##id = __atomic_load_n(&mark_##id.hits, __ATOMIC_RELAXED);                                            \
        __atomic_store_n(&mark_##id.hits, hits_##id + 1, __ATOMIC_RELAXED);                                                 \
    } while (0)
#else
#define MARK(id) ((void)0)
#endif
