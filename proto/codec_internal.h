// Shared by the codec's files and by nobody else: builders from plain structs to generated ones (enc_*, in the arena) and
// checked readers the other way (dec_*).
#pragma once
#include "proto/codec.h"
#include "shoal.pb-c.h"
#include <string.h>

// A place to start from that the arena does not own (it must outlive the arena's use).
void codec_arena_borrow(struct codec_arena *arena, void *memory, size_t size);
// The same memory as protobuf-c wants it: free() does nothing.
ProtobufCAllocator codec_arena_allocator(struct codec_arena *arena);

// ---- text
// Length of the longest prefix of s that is whole, valid UTF-8 (RFC 3629).
size_t utf8_prefix(const uint8_t *s, size_t n);
// A name, address or other short word: valid UTF-8, no control characters, shorter than size. `field` names it in the error.
err_id dec_name(const ProtobufCBinaryData *from, char *out, size_t size, const char *field, struct error *e);
// A sentence for humans: cut at size, bytes that are not UTF-8 or control characters become '?'.
void dec_sentence(const ProtobufCBinaryData *from, char *out, size_t size);
static inline ProtobufCBinaryData enc_text(const char *s) {
    return (ProtobufCBinaryData){.len = strlen(s), .data = (uint8_t *)s};
}
err_id dec_float(float x, float low, float high, const char *field, struct error *e);

// ---- encoding; aborts when memory is gone
void *enc_alloc(struct codec_arena *a, size_t n);
Shoal__Stream *enc_stream(struct codec_arena *a, const struct stream_key *key);
Shoal__Attempt *enc_attempt(struct codec_arena *a, const struct attempt *attempt); // NULL for none
Shoal__Records *enc_records(struct codec_arena *a, const struct records *records);
Shoal__DeploymentInfo *enc_info(struct codec_arena *a, const struct deployment_info *info);
Shoal__Member **enc_members(struct codec_arena *a, uint32_t n, const struct member *members);
Shoal__Hello *enc_hello(struct codec_arena *a, const struct msg_hello *m);
Shoal__Status *enc_status(struct codec_arena *a, const struct msg_status *m);
Shoal__Cluster *enc_cluster(struct codec_arena *a, const struct msg_cluster *m);
// Packs any generated message behind out; false: it would be larger than max.
bool enc_pack(const ProtobufCMessage *m, size_t max, struct buf *out);

// ---- decoding
err_id dec_stream(const Shoal__Stream *from, struct stream_key *out, struct error *e);
void dec_attempt(const Shoal__Attempt *from, struct attempt *out);
// max: how many are allowed here. text is checked as a whole and cut at record boundaries.
err_id dec_records(const Shoal__Records *from, struct codec_arena *a, uint32_t max, struct records *out, struct error *e);
err_id dec_hello(const Shoal__Hello *from, struct codec_arena *a, struct msg_hello *out, struct error *e);
err_id dec_status(const Shoal__Status *from, struct codec_arena *a, struct msg_status *out, struct error *e);
err_id dec_cluster(const Shoal__Cluster *from, struct codec_arena *a, struct msg_cluster *out, struct error *e);
err_id dec_no_memory(struct error *e);
