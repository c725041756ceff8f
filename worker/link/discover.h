// Where the routers are, asked again and again: the present set of "tcp://host:port" addresses from a list, a DNS name with
// many addresses, or a watched file. Loop thread only.
#pragma once
#include "common/sys/config.h"
#include <uv.h>

struct discover;

// `changed` is called from the loop with the whole set whenever it differs from the last; for a list once, from inside this
// call. An answer that fails (no such name, unreadable file) changes nothing and is logged.
struct discover *discover_start(uv_loop_t *loop, const struct config_discover *what,
                                void (*changed)(void *ctx, const char (*addresses)[ADDRESS_SIZE], uint32_t n), void *ctx);
void discover_stop(struct discover **d); // memory goes when the loop has closed its handles
