// A protobuf frame behind a byte that says of which kind: a message of the cluster, the body of a Generate, a message
// between the members of a replica. It is refused with a sentence, or is the same when written and read again.
#include "common/base/check.h"
#include "proto/codec.h"
#include "tests/fuzz/target.h"
#include "tests/unit/proto/messages.h"
#include "worker/group/message.h"

#include <string.h>

static void check_equal(struct buf *a, struct buf *b) {
    CHECK(a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
    buf_free(a);
    buf_free(b);
}

static void try_message(const uint8_t *data, size_t size) {
    struct codec_arena first = {0}, second = {0};
    struct msg m, again;
    struct error e = {0};
    struct buf frame = {0}, a = {0}, b = {0};
    if (codec_decode(data, size, &first, &m, &e) != ERR_NONE) {
        CHECK(e.id != ERR_NONE && e.text[0] != '\0');
    } else if (codec_encode(&m, &frame)) {
        CHECK(codec_decode((const uint8_t *)frame.data, frame.len, &second, &again, &e) == ERR_NONE);
        dump_msg(&m, &a);
        dump_msg(&again, &b);
        check_equal(&a, &b);
    }
    buf_free(&frame);
    codec_arena_free(&first);
    codec_arena_free(&second);
}

static void try_prompt(const uint8_t *data, size_t size) {
    struct codec_arena first = {0}, second = {0};
    struct prompt p, again;
    struct error e = {0};
    struct buf body = {0}, a = {0}, b = {0};
    if (codec_prompt_decode(data, size, &first, &p, &e) != ERR_NONE) {
        CHECK(e.id != ERR_NONE && e.text[0] != '\0');
    } else if (codec_prompt_encode(&p, &body)) {
        CHECK(codec_prompt_decode((const uint8_t *)body.data, body.len, &second, &again, &e) == ERR_NONE);
        dump_prompt(&p, &a);
        dump_prompt(&again, &b);
        check_equal(&a, &b);
    }
    buf_free(&body);
    codec_arena_free(&first);
    codec_arena_free(&second);
}

static void try_group(const uint8_t *data, size_t size) {
    struct group_msg *m = NULL;
    struct error e = {0};
    if (group_decode(data, size, &m, &e) != ERR_NONE) {
        CHECK(e.id != ERR_NONE && e.text[0] != '\0');
        return;
    }
    group_msg_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    switch (data[0] % 3) {
    case 0:
        try_message(data + 1, size - 1);
        break;
    case 1:
        try_prompt(data + 1, size - 1);
        break;
    default:
        try_group(data + 1, size - 1);
    }
    return 0;
}
