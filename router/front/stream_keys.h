// The keys that sign the ids of events (stream_id.h). All routers of a cluster have the same file: a line of 64 hex digits,
// or two. The first signs; both are believed, so that keys can be changed without breaking streams: new one second
// everywhere, then first, then the old one goes. Lines that begin with # and empty ones are skipped. Loop thread only.
#pragma once
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/sys/config.h"

enum { STREAM_KEY_BYTES = 32, STREAM_KEYS_MAX = 2 };

struct stream_keys {
    uint32_t n; // the first signs
    uint8_t keys[STREAM_KEYS_MAX][STREAM_KEY_BYTES];
    char path[CONFIG_PATH_SIZE]; // "": not from a file
    int64_t size, changed_ns;    // of the file, as last read
    ms_t looked_at;
};

// From security.stream_keys. Without one: if `http` is a loopback address and nobody needs an API key, a key that follows
// from the cluster's name, so that routers of one host understand each other (it keeps nobody out who isn't kept out
// anyway); else a random one, which other routers and later lives of this one refuse; that is logged.
err_id stream_keys_init(struct stream_keys *k, const struct cluster_config *config, const char *http, struct error *e);
// Reads the file again when it has changed. One that is wrong is logged, and the old keys stay.
void stream_keys_refresh(struct stream_keys *k, ms_t now);
// The file's text. ERR_CONFIG with the line.
err_id stream_keys_parse(const char *text, struct stream_keys *out, struct error *e);
