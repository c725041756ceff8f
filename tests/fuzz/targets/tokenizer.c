// tokenizer.json, and behind a zero byte a text. What can be made encodes the text into ids that it knows, decodes them to
// valid UTF-8, and gives the same text token by token, never half a character.
#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "worker/text/detokenizer.h"
#include "worker/text/tokenizer.h"
#include "worker/text/utf8.h"

#include <string.h>

enum { TEXT_MAX = 4096 };

static void decode_piecemeal(const struct tokenizer *t, const struct ids *ids, bool skip_special) {
    struct buf whole = {0}, piecemeal = {0};
    tokenizer_decode(t, ids->data, ids->len, skip_special, &whole);
    struct detokenizer d;
    detokenizer_init(&d, t, skip_special);
    for (size_t i = 0; i < ids->len; i++) {
        size_t before = piecemeal.len;
        detokenizer_push(&d, ids->data[i], &piecemeal);
        size_t n = piecemeal.len - before;
        CHECK(n == 0 || utf8_valid_prefix(piecemeal.data + before, n) == n);
    }
    detokenizer_finish(&d, &piecemeal);
    detokenizer_fini(&d);
    CHECK(whole.len == piecemeal.len && (whole.len == 0 || memcmp(whole.data, piecemeal.data, whole.len) == 0));
    buf_free(&whole);
    buf_free(&piecemeal);
}

static void try_text(const struct tokenizer *t, const char *text, size_t len) {
    for (unsigned flags = 0; flags < 4; flags++) {
        struct ids ids = {0};
        struct error e = {0};
        if (tokenizer_encode(t, text, len, flags, &ids, &e) == ERR_NONE) {
            for (size_t i = 0; i < ids.len; i++)
                CHECK((flags & ENCODE_ADD_SPECIAL) || ids.data[i] < tokenizer_vocab_size(t));
            decode_piecemeal(t, &ids, flags & 1);
        } else {
            CHECK(ids.len == 0 && e.text[0] != '\0');
        }
        ids_free(&ids);
    }
}

static void try_ids(const struct tokenizer *t, const char *text, size_t len) {
    struct ids ids = {0};
    for (size_t i = 0; i < len && i < 64; i++)
        ids_push(&ids, (uint32_t)(unsigned char)text[i] % (tokenizer_vocab_size(t) + 2));
    decode_piecemeal(t, &ids, true);
    ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    size_t json = zero != NULL ? (size_t)(zero - data) : size;
    const char *text = zero != NULL ? (const char *)zero + 1 : "";
    size_t len = zero != NULL ? size - json - 1 : 0;
    if (len > TEXT_MAX) len = TEXT_MAX;
    struct tokenizer *t;
    struct error e = {0};
    if (tokenizer_create((struct bytes){(const char *)data, json}, (struct bytes){NULL, 0}, &t, &e) != ERR_NONE) {
        CHECK(e.id == ERR_MODEL_FILES && e.text[0] != '\0');
        return 0;
    }
    try_text(t, text, len);
    try_ids(t, text, len);
    tokenizer_destroy(t);
    return 0;
}
