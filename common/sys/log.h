// The log: one line per state change of a long-lived thing, on stderr, as
//     2026-01-31T23:59:59.123Z info worker_joined node=router-a name="w 1" rtt_ms=3
// or as one JSON object per line. `worker_joined` is the message id: stable, snake_case, what people search and alert on.
// The rest is key=value. Values are escaped, so no peer can forge a line or a field. Never log a prompt, generated text or
// a key. Each line is one write(2) of at most LOG_LINE_MAX bytes (longer lines are cut and marked truncated=true).
// The logger is the one process-wide object of Shoal: main sets it up with log_open() before it starts threads; everything
// may write to it from any thread. Before log_open it writes key=value lines from level info up.
#pragma once
#include "common/base/ids.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARN, LEVEL_ERROR };
enum log_format { LOG_FORMAT_KV, LOG_FORMAT_JSON };
enum { LOG_LINE_MAX = 4096 };

struct log_options {
    enum log_format format;
    enum log_level level; // lines below are dropped before they are formatted
    const char *node;     // name of this process, put into every line as node=…; NULL or "": none. Copied.
    int fd;               // where to write; 0 means stderr
};

void log_open(const struct log_options *options);
bool log_enabled(enum log_level level);

// `format` holds space-separated key=conversion pairs: log_info("worker_joined", "name=%s rtt_ms=%u", name, rtt). Keys are
// literals. Conversions: d i u x o c f g e s with flags, width, precision (also .*) and the lengths hh h l ll z j t; a pair
// may mix text and one conversion ("id=w%u"). NULL or "" for no pairs. A %s of NULL prints as (null).
void log_write(enum log_level level, const char *id, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define log_debug(...) log_write(LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LEVEL_ERROR, __VA_ARGS__)

// The request id as text inside the argument list: log_info("stream_done", "request=%s", LOG_REQUEST(&id)).
#define LOG_REQUEST(id) log_request_text((id), (char[REQUEST_ID_TEXT]){0})
const char *log_request_text(const request_id *id, char out[REQUEST_ID_TEXT]);

// For what a peer can cause at will (garbage, refused frames): the first line is written, later ones are only counted for
// period_ms, then one line goes out with suppressed=<count>. Zero-initialised, one owner thread; lives in the object that
// owns the link, so a loud peer can't silence the others.
struct log_limit {
    ms_t quiet_until;
    uint64_t suppressed;
};
void log_limited(struct log_limit *limit, uint32_t period_ms, enum log_level level, const char *id, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

const char *log_level_name(enum log_level level); // "debug", "info", "warn", "error"
