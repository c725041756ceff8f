// An answer on its way to the screen: what the commands that show one share.
#pragma once
#include "client/cli/cli.h"
#include "common/base/buf.h"

struct answer {
    bool quiet;     // gather only
    bool reasoning; // show reasoning too, dim on a terminal
    bool notes;     // say when another replica takes over
    // gathered
    struct buf text, thoughts, tokens; // content; reasoning; uint32_t ids
    uint32_t n_tokens;
    char request_id[SHOAL_REQUEST_ID_SIZE], replica[SHOAL_NAME_SIZE], router[SHOAL_NAME_SIZE];
    char finish[16];
    uint32_t attempt, attempts, prompt_tokens, cached_tokens, restored_tokens;
    uint64_t seed;
    struct shoal_failure failure;
    // time
    int64_t begin_ms, first_ms, last_ms, end_ms; // of the monotonic clock; 0: not yet
    int64_t pause_ms;                            // before the first token of the latest attempt
    bool dim;
};

void answer_begin(struct answer *a);
// A shoal_on_event with a struct answer as ctx.
bool answer_on_event(void *ctx, const struct shoal_event *e);
void answer_free(struct answer *a);
// [{"role": …, "content": …}] with an optional system message; the caller frees it. NULL: the text is not UTF-8.
char *answer_messages(const char *system, const char *user, size_t user_len);
