// Design notes. A line is built on the stack in one buffer that keeps a reserve at its end, so that a line that is too long
// can still be closed properly (quote, truncated=true, brace, newline). The format string is walked pair by pair and each
// conversion is handed to snprintf alone: so values are known before they are written and can be escaped, which a single
// vsnprintf over the whole line would not allow, while the compiler still checks the arguments.
#include "common/sys/log.h"

#include "common/base/check.h"
#include "common/sys/clock.h"
#include "common/sys/log_format.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// The process-wide logger (see the header): written by log_open before there are threads, read-only afterwards.
static struct {
    enum log_format format;
    enum log_level level;
    int fd;
    char node[64];
} logger = {LOG_FORMAT_KV, LEVEL_INFO, STDERR_FILENO, ""};

void log_open(const struct log_options *options) {
    logger.format = options->format;
    logger.level = options->level;
    logger.fd = options->fd ? options->fd : STDERR_FILENO;
    snprintf(logger.node, sizeof logger.node, "%s", options->node ? options->node : "");
}

bool log_enabled(enum log_level level) { return level >= logger.level; }

const char *log_level_name(enum log_level level) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    CHECK((size_t)level < ARRAY_LEN(names));
    return names[level];
}

const char *log_request_text(const request_id *id, char out[REQUEST_ID_TEXT]) {
    request_id_text(id, out);
    return out;
}

// A line is written whole or not at all as far as the kernel lets us: a second write could mix with another thread's line.
static void write_line(const struct log_line *line) {
    ssize_t n;
    do n = write(logger.fd, line->data, line->len);
    while (n < 0 && errno == EINTR);
}

static void begin(struct log_line *line, enum log_level level, const char *id) {
    char now[CLOCK_TEXT];
    clock_wall_text(clock_wall_ms(), now);
    log_line_begin(line, logger.format, now, log_level_name(level), id);
    if (logger.node[0]) log_line_pair(line, "node", 4, logger.node, strlen(logger.node), false);
}

void log_write(enum log_level level, const char *id, const char *format, ...) {
    if (!log_enabled(level)) return;
    struct log_line line;
    begin(&line, level, id);
    va_list ap;
    va_start(ap, format);
    log_line_pairs(&line, format, &ap);
    va_end(ap);
    log_line_end(&line);
    write_line(&line);
}

void log_limited(struct log_limit *limit, uint32_t period_ms, enum log_level level, const char *id, const char *format,
                 ...) {
    ms_t now = clock_ms();
    if (now < limit->quiet_until) {
        limit->suppressed++;
        return;
    }
    uint64_t suppressed = limit->suppressed;
    *limit = (struct log_limit){now + period_ms, 0};
    if (!log_enabled(level)) return;
    struct log_line line;
    begin(&line, level, id);
    va_list ap;
    va_start(ap, format);
    log_line_pairs(&line, format, &ap);
    va_end(ap);
    char count[24];
    int n = snprintf(count, sizeof count, "%llu", (unsigned long long)suppressed);
    if (suppressed) log_line_pair(&line, "suppressed", 10, count, (size_t)n, true);
    log_line_end(&line);
    write_line(&line);
}
