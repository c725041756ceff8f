// A message in flight: a deep copy in one run of bytes, counted, because a doubled one is delivered twice. Memory comes from
// lists of used packets by size, so that an idle heartbeat costs no malloc; under AddressSanitizer each packet is a malloc
// of its own and holds a whole struct msg, so that a core that keeps a borrowed pointer is caught.
#pragma once
#include "common/base/message.h"

struct conn;

struct packet {
    struct conn *conn;
    uint8_t to;   // which end of it receives
    uint8_t size; // class
    uint16_t refs;
    struct packet *next; // in its list of used packets
    struct msg msg;      // only the arm of its kind is there, then what it points to
};

enum { PACKET_CLASSES = 24 };
struct packet_pool {
    struct packet *used[PACKET_CLASSES]; // class c: 64 << c bytes
    char *chunk;                         // being cut up
    size_t chunk_left;
    void **chunks; // owned
    uint32_t n_chunks;
    uint64_t live;
};

struct packet *packet_copy(struct packet_pool *pool, const struct msg *m); // one reference
void packet_release(struct packet_pool *pool, struct packet *p);
void packet_pool_free(struct packet_pool *pool);
