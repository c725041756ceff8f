// What the wire's tests share: random valid messages from a seed, and messages written out as text, field by field, so that
// two of them can be compared and a difference can be read.
#pragma once
#include "common/base/buf.h"
#include "proto/codec.h"

struct sampler {
    uint64_t state;
    struct codec_arena arena; // holds what sampled messages point to
};

uint32_t sample_below(struct sampler *s, uint32_t n);
void sample_msg(struct sampler *s, enum msg_kind kind, struct msg *out);
void sample_prompt(struct sampler *s, struct prompt *out);
void sample_free(struct sampler *s);

void dump_msg(const struct msg *m, struct buf *out);
void dump_prompt(const struct prompt *p, struct buf *out);
