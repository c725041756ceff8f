#include "common/sys/process.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

int process_config(struct cluster_config *c, const char *path, bool check, bool print) {
    struct error e = {0};
    struct buf text = {0};
    config_defaults(c);
    if (path && config_load(c, path, &text, &e) != ERR_NONE) {
        fputs(text.len ? text.data : error_text(&e), stderr);
        if (text.len == 0) fputc('\n', stderr);
        buf_free(&text);
        return 2;
    }
    buf_reset(&text);
    if (print) {
        config_print(c, &text);
        fputs(text.data, stdout);
    } else if (check) {
        printf("%s: fine\n", path ? path : "the default configuration");
    }
    buf_free(&text);
    return print || check ? 0 : -1;
}

static enum log_level level_from(const char *name, enum log_level otherwise) {
    for (enum log_level l = LEVEL_DEBUG; name && l <= LEVEL_ERROR; l++)
        if (strcmp(log_level_name(l), name) == 0) return l;
    return otherwise;
}

void process_start(const char *program, const char *name, const char *level, const struct cluster_config *c) {
    struct log_options log = {.format = c->log.format, .level = level_from(level, c->log.level), .node = name};
    log_open(&log);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0) log_warn("open_files_limit", "program=%s", program);
    }
}

uint64_t process_random(void) {
    uint64_t bits = 0;
    while (bits == 0) CHECK(getrandom(&bits, sizeof bits, 0) == (ssize_t)sizeof bits);
    return bits;
}
