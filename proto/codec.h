// Frames to the plain structs of common/base/message.h and back. This is the only place where generated protobuf code is
// seen. shoal.proto is the format, README.md beside it the grammar.
//
// A frame's life: received → codec_decode(frame, arena) → the core takes what it needs → codec_arena_reset(arena).
// Everything a decoded message points to lies in the arena, nothing in the frame. Nothing here is shared between calls but
// the arena that the caller brings: any thread may call, each with its own.
//
// What a peer sent is checked in full: sizes before parsing, version, kind, every length, count, enum and number against
// limits.h, UTF-8, no control characters in names. What fails is refused with ERR_PROTOCOL (a prompt: ERR_INVALID_ARGUMENT)
// and a sentence that names the field; the caller counts it and serves on.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/message.h"
#include "common/base/prompt.h"

// A bump allocator that is emptied all at once and keeps its memory: once it has grown to the largest message seen (up to
// CODEC_ARENA_KEEP), decoding allocates nothing. All zero is a valid empty arena.
enum { CODEC_ARENA_MAX = 128 << 20, CODEC_ARENA_KEEP = 4 << 20, CODEC_ARENA_FIRST = 16 << 10 };

struct codec_block;
struct codec_arena {
    struct codec_block *current; // newest block; older ones are chained behind it
    size_t used;                 // bytes of the newest block
    size_t total;                // bytes of all blocks
};
// 16-byte aligned, not cleared. NULL when the arena would grow past CODEC_ARENA_MAX or memory is gone.
void *codec_arena_alloc(struct codec_arena *arena, size_t n);
// Takes everything back; what was decoded into it is gone.
void codec_arena_reset(struct codec_arena *arena);
// Also gives the memory back; the arena is empty and may be used again.
void codec_arena_free(struct codec_arena *arena);

// Appends one frame to out. False, with out as it was: the frame would be larger than FRAME_BYTES_MAX (only a Generate with
// a large body and many records, a Sync or a Cluster can be). What m holds must be valid, else the receiver refuses it;
// text that is not valid UTF-8 in an error's sentence is mended. Messages that fit 8 KB need no memory besides out.
bool codec_encode(const struct msg *m, struct buf *out);
// When it fails, out->kind says what the frame was meant to be (MSG_NONE: can't be told). For a Generate whose stream could
// be read (its request is not all zero then) key and attempt are set, so that it can be answered with Rejected.
err_id codec_decode(const uint8_t *frame, size_t len, struct codec_arena *arena, struct msg *out, struct error *e);

// The body of a Generate. Encoding: as above with BODY_BYTES_MAX. Empty JSON strings decode as NULL; messages_json and text
// are always set. Strings in a decoded prompt are followed by a zero byte.
bool codec_prompt_encode(const struct prompt *p, struct buf *out);
err_id codec_prompt_decode(const uint8_t *body, size_t len, struct codec_arena *arena, struct prompt *out, struct error *e);
