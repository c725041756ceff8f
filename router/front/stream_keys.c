#include "router/front/stream_keys.h"

#include "common/base/check.h"
#include "common/sys/endpoint.h"
#include "common/sys/log.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES_MAX = 4096, LOOK_EVERY_MS = 2000 };

err_id stream_keys_parse(const char *text, struct stream_keys *out, struct error *e) {
    uint32_t n = 0, line = 0;
    uint8_t keys[STREAM_KEYS_MAX][STREAM_KEY_BYTES];
    while (*text) {
        size_t len = strcspn(text, "\n"), end = len, bytes = 0;
        line++;
        while (end > 0 && strchr(" \t\r", text[end - 1])) end--;
        if (end > 0 && text[0] != '#') {
            if (n == STREAM_KEYS_MAX) return error_set(e, ERR_CONFIG, "line %u: more than %d keys", line, STREAM_KEYS_MAX);
            if (sodium_hex2bin(keys[n], STREAM_KEY_BYTES, text, end, NULL, &bytes, NULL) != 0 || bytes != STREAM_KEY_BYTES ||
                end != 2 * STREAM_KEY_BYTES)
                return error_set(e, ERR_CONFIG, "line %u: a key has %d hex digits", line, 2 * STREAM_KEY_BYTES);
            n++;
        }
        text += len + (text[len] == '\n');
    }
    if (n == 0) return error_set(e, ERR_CONFIG, "no key: make one with `openssl rand -hex %d`", STREAM_KEY_BYTES);
    memcpy(out->keys, keys, sizeof keys);
    out->n = n;
    return ERR_NONE;
}

static err_id read_file(struct stream_keys *k, struct error *e) {
    char text[FILE_BYTES_MAX + 1];
    struct stat st;
    FILE *f = fopen(k->path, "re");
    if (f == NULL || fstat(fileno(f), &st) != 0) {
        if (f) fclose(f);
        return error_set(e, ERR_CONFIG, "security.stream_keys: %s can't be read", k->path);
    }
    k->size = st.st_size;
    k->changed_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
    size_t n = fread(text, 1, FILE_BYTES_MAX, f);
    fclose(f);
    text[n] = '\0';
    err_id id = stream_keys_parse(text, k, e);
    sodium_memzero(text, sizeof text);
    return id == ERR_NONE ? id : error_wrap(e, "security.stream_keys: %s", k->path);
}

// Everybody who reaches this router may ask for anything, and only this host reaches it.
static bool is_open(const struct cluster_config *config, const char *http) {
    struct endpoint p;
    struct error e;
    bool loopback = http && *http && endpoint_parse(http, &p, &e) == ERR_NONE && p.loopback;
    return loopback && config->security.api_keys[0] == '\0';
}

err_id stream_keys_init(struct stream_keys *k, const struct cluster_config *config, const char *http, struct error *e) {
    CHECK(sodium_init() >= 0);
    *k = (struct stream_keys){.n = 1};
    if (config->security.stream_keys[0]) {
        memcpy(k->path, config->security.stream_keys, sizeof k->path);
        return read_file(k, e);
    }
    if (is_open(config, http)) {
        static const char purpose[] = "shoal: ids of events on loopback";
        crypto_generichash(k->keys[0], STREAM_KEY_BYTES, (const uint8_t *)config->cluster, strlen(config->cluster),
                           (const uint8_t *)purpose, sizeof purpose - 1);
        return ERR_NONE;
    }
    randombytes_buf(k->keys[0], STREAM_KEY_BYTES);
    if (http && *http)
        log_warn("stream_keys_missing", "effect=%s",
                 "HTTP clients can't take a stream up at another router; set security.stream_keys to the same file on all");
    return ERR_NONE;
}

void stream_keys_refresh(struct stream_keys *k, ms_t now) {
    struct stat st;
    struct error e = {0};
    if (k->path[0] == '\0' || now - k->looked_at < LOOK_EVERY_MS) return;
    k->looked_at = now;
    if (stat(k->path, &st) != 0) return;
    if (st.st_size == k->size && st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == k->changed_ns) return;
    if (read_file(k, &e) == ERR_NONE)
        log_info("stream_keys_read", "keys=%u", k->n);
    else
        log_warn("stream_keys_bad", "error=%s effect=%s", error_text(&e), "the old ones stay");
}
