// Where a text stands in a network: the set of all ways to have read it so far, each a node and a stack of nodes to return
// to. State is a function of the bytes pushed: to rebuild it, push them again. One owner; the network must outlive it.
#pragma once
#include "worker/grammar/network.h"
#include <stddef.h>

struct frame {                   // of a stack: linked, shared between ways, equal ones are one
    uint32_t parent, ret, count; // ret: the node to go on at; a counter's: how often its body was called, this time included
    uint32_t depth, chain;
    uint64_t own, hash; // of this frame and of the whole stack, counts as far as they can matter to one token
};

struct way {
    uint32_t node, frame; // frame 0: the bottom
};

enum { MATCHER_WAYS_MAX = 512, MATCHER_DEPTH_MAX = 256, MATCHER_BUCKETS = 1024 };

struct ways {
    struct way *list;
    uint32_t n, cap;
};

struct matcher {
    const struct network *net;
    uint32_t token_bytes_max; // of the vocabulary: counts that differ by more than a token can reach are alike
    struct frame *frames;
    uint32_t n_frames, cap_frames;
    uint32_t buckets[MATCHER_BUCKETS];
    struct ways now, next;
    struct ways visited; // scratch
    uint32_t lowest;     // scratch: least depth of a frame that was returned to since it was set
    bool overflow;       // there were more ways than are followed: what the matcher says is no longer to be trusted
};

void matcher_init(struct matcher *m, const struct network *net, uint32_t token_bytes_max);
void matcher_fini(struct matcher *m);
// False: the bytes can't follow; then the matcher is where it was.
bool matcher_push(struct matcher *m, const char *bytes, size_t len);
bool matcher_complete(const struct matcher *m); // what was pushed is a whole text
bool matcher_ended(const struct matcher *m);    // complete, and nothing can follow

// For masks (mask.c): appends to *out where one gets from `from` by a byte; frames made since matcher_mark() are dropped by
// matcher_release().
void matcher_step(struct matcher *m, struct way from, uint8_t byte, struct ways *out, uint32_t out_first);
uint32_t matcher_mark(const struct matcher *m);
void matcher_release(struct matcher *m, uint32_t mark);
