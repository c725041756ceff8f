// Feeds a fuzz target the files of the folders named on the command line: what campaigns found stays tested in every build.
#include "common/base/buf.h"
#include "common/base/check.h"
#include "tests/fuzz/target.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Each file in memory of exactly its size, so that a sanitizer sees a read past it.
static void feed(const char *path) {
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    struct buf all = {0};
    size_t n;
    do {
        n = fread(buf_reserve(&all, 4096), 1, 4096, f);
        all.len += n;
    } while (n > 0);
    fclose(f);
    uint8_t *exact = malloc(all.len ? all.len : 1);
    CHECK(exact != NULL);
    if (all.len > 0) memcpy(exact, all.data, all.len);
    LLVMFuzzerTestOneInput(exact, all.len);
    free(exact);
    buf_free(&all);
}

static size_t feed_folder(const char *folder) {
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        fprintf(stderr, "%s can't be opened\n", folder);
        exit(1);
    }
    size_t n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[1024];
        if (entry->d_name[0] == '.') continue;
        CHECK(snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path);
        feed(path);
        n++;
    }
    closedir(dir);
    return n;
}

int main(int argc, char **argv) {
    size_t n = 0;
    for (int i = 1; i < argc; i++) n += feed_folder(argv[i]);
    printf("%zu inputs\n", n);
    return n > 0 ? 0 : 1;
}
