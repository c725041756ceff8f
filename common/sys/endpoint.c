#include "common/sys/endpoint.h"

#include "common/sys/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static err_id refuse(const char *text, struct error *e) {
    return error_set(e, ERR_INVALID_ARGUMENT,
                     "\"%.100s\" is no address: expected host:port, :port, [ipv6]:port or unix:/path", text);
}

static bool starts(const char **text, const char *prefix) {
    size_t n = strlen(prefix);
    if (strncmp(*text, prefix, n) != 0) return false;
    *text += n;
    return true;
}

static bool parse_port(const char *text, uint16_t *port) {
    uint64_t value;
    if (!parse_u64(text, &value) || value > UINT16_MAX) return false;
    *port = (uint16_t)value;
    return true;
}

static bool is_host_name(const char *s) {
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '-' && *s != '.' && *s != '_') return false;
    return true;
}

static err_id classify(const char *text, struct endpoint *p, struct error *e) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(p->host, "localhost") == 0) snprintf(p->host, sizeof p->host, "127.0.0.1");
    if (strcmp(p->host, "*") == 0) p->host[0] = '\0';
    if (inet_pton(AF_INET, p->host, &v4) == 1) {
        p->numeric = true;
        p->loopback = ntohl(v4.s_addr) >> 24 == 127;
    } else if (inet_pton(AF_INET6, p->host, &v6) == 1) {
        p->numeric = p->v6 = true;
        p->loopback = IN6_IS_ADDR_LOOPBACK(&v6);
    } else if (!is_host_name(p->host)) {
        return refuse(text, e);
    }
    return ERR_NONE;
}

static err_id parse_unix(const char *text, const char *path, struct endpoint *out, struct error *e) {
    if (path[0] != '/')
        return error_set(e, ERR_INVALID_ARGUMENT, "\"%.100s\": the path of a unix socket begins with /", text);
    if (strlen(path) > 107) // sun_path, with its NUL
        return error_set(e, ERR_INVALID_ARGUMENT, "\"%.100s\": the path of a unix socket has at most 107 bytes", text);
    *out = (struct endpoint){.kind = ENDPOINT_UNIX, .loopback = true};
    snprintf(out->host, sizeof out->host, "%s", path);
    return ERR_NONE;
}

err_id endpoint_parse(const char *text, struct endpoint *out, struct error *e) {
    const char *rest = text;
    if (starts(&rest, "unix:") || starts(&rest, "ipc://")) return parse_unix(text, rest, out, e);
    *out = (struct endpoint){.kind = ENDPOINT_TCP};
    starts(&rest, "tcp://");
    bool bracket = *rest == '[';
    const char *host = rest + bracket, *end = bracket ? strchr(host, ']') : strrchr(host, ':');
    if (end == NULL || (size_t)(end - host) >= sizeof out->host || (bracket && end[1] != ':')) return refuse(text, e);
    memcpy(out->host, host, (size_t)(end - host));
    if (!parse_port(end + 1 + bracket, &out->port)) return refuse(text, e);
    TRY(classify(text, out, e));
    return out->v6 == bracket ? ERR_NONE : refuse(text, e);
}

void endpoint_zmq_text(const struct endpoint *p, char out[ADDRESS_SIZE + 16]) {
    if (p->kind == ENDPOINT_UNIX)
        snprintf(out, ADDRESS_SIZE + 16, "ipc://%s", p->host);
    else
        snprintf(out, ADDRESS_SIZE + 16, p->v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", p->host[0] ? p->host : "*", p->port);
}

void endpoint_text(const struct endpoint *p, char out[ADDRESS_SIZE + 16]) {
    if (p->kind == ENDPOINT_UNIX)
        snprintf(out, ADDRESS_SIZE + 16, "unix:%s", p->host);
    else
        snprintf(out, ADDRESS_SIZE + 16, p->v6 ? "[%s]:%u" : "%s:%u", p->host, p->port);
}
