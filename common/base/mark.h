// Coverage marks: MARK(name) at a branch that matters says that a run has been there. The simulator lists all marks that are
// linked into it and which of them its runs have hit; one that no seed hits means that a fault or a check is missing.
// RARE_MARK is for what only a long run can be expected to hit. A name may stand in several places, which then count as one.
// In a build without tests marks compile to nothing.
//
// Each is a counter and an entry in a section of its own, which the linker gathers: no list to keep. Counting is relaxed,
// since libshoal runs delivery on several threads; a lost count doesn't matter.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct mark {
    const char *name;
    bool rare;
    uint32_t hits;
};

#ifdef SHOAL_MARKS
#define MARK_HERE(id, is_rare)                                                                                              \
    do {                                                                                                                    \
        static struct mark mark_##id = {#id, is_rare, 0};                                                                   \
        static struct mark *const entry_##id __attribute__((section("shoal_marks"), used)) = &mark_##id;                    \
        uint32_t hits_##id = __atomic_load_n(&mark_##id.hits, __ATOMIC_RELAXED);                                            \
        __atomic_store_n(&mark_##id.hits, hits_##id + 1, __ATOMIC_RELAXED);                                                 \
    } while (0)
#else
#define MARK_HERE(id, is_rare) ((void)0)
#endif
#define MARK(id)      MARK_HERE(id, false)
#define RARE_MARK(id) MARK_HERE(id, true)
