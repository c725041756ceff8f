// Addresses as people write them, for HTTP and for ZeroMQ: "127.0.0.1:8080", ":8080" (every interface), "[::1]:8080",
// "localhost:8080", each with or without "tcp://"; "unix:/path" or "ipc:///path". Port 0 asks for any free one. Names other
// than localhost are kept as they are and count as remote; nothing is resolved here. Pure.
#pragma once
#include "common/base/error.h"
#include "common/base/limits.h"

#include <stdbool.h>
#include <stdint.h>

enum endpoint_kind { ENDPOINT_TCP, ENDPOINT_UNIX };

struct endpoint {
    enum endpoint_kind kind;
    char host[ADDRESS_SIZE]; // TCP: without brackets, "localhost" as 127.0.0.1; "" means every interface. UNIX: the path
    uint16_t port;
    bool v6;       // host is a numeric IPv6 address
    bool numeric;  // host is a numeric address
    bool loopback; // 127.0.0.0/8, ::1 or UNIX: bytes don't leave this host
};

// ERR_INVALID_ARGUMENT with a sentence that names the text and what was expected.
err_id endpoint_parse(const char *text, struct endpoint *out, struct error *e);
// As ZeroMQ writes it: "tcp://127.0.0.1:7700", "tcp://[::1]:7700", "tcp://*:7700", "ipc:///path". Cut when too long.
void endpoint_zmq_text(const struct endpoint *p, char out[ADDRESS_SIZE + 16]);
// As the configuration writes it: "127.0.0.1:7700", "[::1]:7700", ":7700", "unix:/path".
void endpoint_text(const struct endpoint *p, char out[ADDRESS_SIZE + 16]);
