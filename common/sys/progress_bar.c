#include "common/sys/progress_bar.h"
#include <unistd.h>

enum { WIDTH = 40 };

void progress_bar_init(struct progress_bar *bar, FILE *stream, const char *what) {
    *bar = (struct progress_bar){.stream = isatty(fileno(stream)) ? stream : NULL, .what = what, .percent = -1};
}

void progress_bar_update(struct progress_bar *bar, uint64_t done, uint64_t total) {
    static const char full[] = "########################################",
                      empty[] = "........................................";
    int percent = total == 0 ? 0 : done >= total ? 100 : (int)((double)done / (double)total * 100);
    if (bar->stream == NULL || (percent == bar->percent && !bar->detail[0])) return;
    bar->percent = percent;
    int filled = percent * WIDTH / 100;
    fprintf(bar->stream, "\r%s [%.*s%.*s] %3d %%", bar->what, filled, full, WIDTH - filled, empty, percent);
    if (bar->detail[0])
        fprintf(bar->stream, ", %s\033[K", bar->detail);
    else
        fprintf(bar->stream, " of %.1f GB", (double)total / 1e9);
    fflush(bar->stream);
}

void progress_bar_end(struct progress_bar *bar) {
    if (bar->stream != NULL && bar->percent >= 0) fputs("\r\033[K", bar->stream);
    bar->stream = NULL;
}
