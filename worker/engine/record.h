// Recordings of what an engine was told and what it answered: a bug, a slow step or a question about determinism becomes a
// file that `shoal-model replay` runs again. Tokens of prompts are in it: treat the file as their text.
//
// A file is a head and frames: {kind, bytes} and a payload padded to 8 bytes, in the order of the calls. Little endian.
#pragma once
#include <stdio.h>
#include "worker/engine/backend.h"

enum { RECORD_VERSION = 3, RECORD_PATH_MAX = 512, RECORD_FRAME_MAX = 64 << 20 };
enum record_kind { RECORD_OPEN = 1, RECORD_CLOSE, RECORD_PLAN, RECORD_SAMPLE, RECORD_RESULT, RECORD_IMPORT };

struct record_head {
    char magic[8]; // "SHOALREC"
    uint32_t version, head_bytes;
    char device[16], fingerprint[ENGINE_FINGERPRINT_MAX], model[RECORD_PATH_MAX];
    uint32_t slots, rows, batch_tokens, context, block_tokens, blocks, layer_first, layer_end, quant, numeric;
    uint64_t kv_bytes;
    struct engine_mock_opts mock;
};

struct record_frame {
    uint32_t kind, bytes; // of the payload without padding
};

struct record_open { // then tokens[n_tokens]
    uint32_t slot, n_tokens, n_prompt, zero;
    struct sampling_params sampling;
};
struct record_sample { // then forced[rows], then has_mask[rows], then mask_words words for each row that has one
    uint64_t step;
    uint32_t rows, mask_words;
};
struct record_result { // then rows of record_row
    uint64_t step;
    uint32_t rows, elapsed_us;
};
struct record_row {
    uint32_t slot, n_tokens, token, numeric_error;
    float logprob;
    uint32_t zero;
};
struct record_import { // then the bytes
    struct engine_kv_span span;
    uint32_t zero;
    uint64_t hash;
};

// Wraps a loaded engine: from now on *engine is one that writes every call to path and passes it on; destroying it closes
// the file and destroys the wrapped one. opts->model (or NULL) is only asked for its folder. A failing write ends the
// recording, not the engine.
err_id record_wrap(struct engine **engine, const struct engine_opts *opts, const char *path, struct error *e);

// Reads a recording. The head is checked; frames are bounded, their payloads are for the reader to check.
struct record_reader;
err_id record_reader_open(const char *path, struct record_reader **reader, const struct record_head **head, struct error *e);
// *payload is 8-byte aligned and lives until the next call; NULL frame at the end of the file.
err_id record_reader_next(struct record_reader *reader, const struct record_frame **frame, const void **payload,
                          struct error *e);
void record_reader_close(struct record_reader **reader);
