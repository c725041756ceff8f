// The body of an OpenAI request behind a byte that says which kind. It is refused with a sentence, or its prompt goes over
// the wire unchanged.
#include "common/base/check.h"
#include "proto/codec.h"
#include "router/front/openai_request.h"
#include "tests/fuzz/target.h"
#include "tests/unit/proto/messages.h"

#include <string.h>

// What was read is the same when written and read again.
static void again_over_the_wire(const struct prompt *p) {
    struct buf body = {0}, a = {0}, b = {0};
    struct codec_arena arena = {0};
    struct prompt again;
    struct error e = {0};
    CHECK(codec_prompt_encode(p, &body));
    CHECK(codec_prompt_decode((const uint8_t *)body.data, body.len, &arena, &again, &e) == ERR_NONE);
    dump_prompt(p, &a);
    dump_prompt(&again, &b);
    CHECK(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
    codec_arena_free(&arena);
    buf_free(&body);
    buf_free(&a);
    buf_free(&b);
}

static void over_the_wire(const struct prompt *p) {
    struct buf body = {0};
    struct codec_arena arena = {0};
    struct prompt back;
    struct error e = {0};
    if (codec_prompt_encode(p, &body)) {
        if (codec_prompt_decode((const uint8_t *)body.data, body.len, &arena, &back, &e) == ERR_NONE) {
            again_over_the_wire(&back);
        } else {
            CHECK(e.id == ERR_INVALID_ARGUMENT && e.text[0] != '\0');
        }
    }
    codec_arena_free(&arena);
    buf_free(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    enum openai_kind kind = data[0] & 1 ? OPENAI_COMPLETION : OPENAI_CHAT;
    struct openai_request *r;
    struct error e = {0};
    if (openai_request_parse(kind, (const char *)data + 1, size - 1, &r, &e) != ERR_NONE) {
        CHECK(r == NULL && e.id != ERR_NONE && e.text[0] != '\0');
        return 0;
    }
    struct openai_view view = openai_request_view(r);
    CHECK(view.model != NULL && view.ignored != NULL && view.prompt != NULL);
    over_the_wire(view.prompt);
    openai_request_destroy(r);
    return 0;
}
