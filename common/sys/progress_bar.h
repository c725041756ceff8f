// One line on a terminal that fills while something long is done, and is gone when it's over. Prints nothing where the
// stream is no terminal. Single-threaded.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress_bar {
    FILE *stream; // NULL: prints nothing
    const char *what;
    int percent;     // as shown; -1 = not yet
    char detail[48]; // shown behind the percentage; "": the total as bytes
};

// what: "loading mymodel"; not copied.
void progress_bar_init(struct progress_bar *bar, FILE *stream, const char *what);
// done of total bytes; total 0 counts as nothing done. Draws when the percentage has changed.
void progress_bar_update(struct progress_bar *bar, uint64_t done, uint64_t total);
// Wipes the line, if there is one.
void progress_bar_end(struct progress_bar *bar);
