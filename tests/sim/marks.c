#include "tests/sim/marks.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdlib.h>
#include <string.h>

// What the linker gathers; both ends are made by it, from the section's name.
extern struct mark *const __start_shoal_marks[] __attribute__((weak));
extern struct mark *const __stop_shoal_marks[] __attribute__((weak));

enum { FEW = 99 }; // hits

struct tally { // of all marks of one name
    const char *name;
    bool rare;
    uint64_t hits;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct tally *)a)->name, ((const struct tally *)b)->name);
}

static int by_hits(const void *a, const void *b) {
    const struct tally *x = a, *y = b;
    return x->hits < y->hits ? -1 : x->hits > y->hits ? 1 : by_name(a, b);
}

// Owned by the caller.
static struct tally *gather(uint32_t *count) {
    uint32_t n = 0, all = (uint32_t)(__stop_shoal_marks - __start_shoal_marks);
    struct tally *tallies = xcalloc(all + 1, sizeof *tallies);
    for (uint32_t i = 0; i < all; i++)
        tallies[i] =
            (struct tally){__start_shoal_marks[i]->name, __start_shoal_marks[i]->rare, __start_shoal_marks[i]->hits};
    qsort(tallies, all, sizeof *tallies, by_name);
    for (uint32_t i = 0; i < all; i++) {
        if (n > 0 && strcmp(tallies[n - 1].name, tallies[i].name) == 0)
            tallies[n - 1].hits += tallies[i].hits;
        else
            tallies[n++] = tallies[i];
    }
    *count = n;
    return tallies;
}

uint32_t marks_missing(bool rare, FILE *out) {
    uint32_t n, missing = 0;
    struct tally *tallies = gather(&n);
    qsort(tallies, n, sizeof *tallies, by_hits);
    for (uint32_t i = 0; i < n; i++) {
        missing += tallies[i].hits == 0 && (rare || !tallies[i].rare);
        if (tallies[i].hits > FEW) continue;
        fprintf(out, "%12llu  %s%s\n", (unsigned long long)tallies[i].hits, tallies[i].name,
                tallies[i].rare ? " (rare)" : "");
    }
    free(tallies);
    return missing;
}

uint32_t marks_count(void) {
    uint32_t n;
    free(gather(&n));
    return n;
}
