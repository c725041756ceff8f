#include "tests/unit/worker/text/tokenizers.h"

#include "common/base/check.h"
#include "worker/text/byte_level.h"
#include "worker/text/utf8.h"

#include <stdio.h>
#include <string.h>

static void append_name(struct buf *out, const char *s, size_t n) {
    buf_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"' || s[i] == '\\') buf_char(out, '\\');
        buf_char(out, s[i]);
    }
    buf_char(out, '"');
}

static void append_added(struct buf *out, const char *content, int id, bool special) {
    buf_printf(out, "%s{\"id\":%d,\"content\":\"%s\",\"special\":%s,\"normalized\":false}",
               out->data[out->len - 1] == '[' ? "" : ",", id, content, special ? "true" : "false");
}

void byte_level_json(struct buf *out) {
    buf_str(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    append_added(out, "<s>", 300, true);
    append_added(out, "</s>", 301, true);
    append_added(out, "<think>", 302, false);
    append_added(out, "</think>", 303, false);
    append_added(out, "<|User|>", 304, false);
    buf_str(out,
            "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
            "\"decoder\":{\"type\":\"ByteLevel\"},\"post_processor\":null,\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int byte = 0; byte < 256; byte++) {
        char name[4];
        append_name(out, name, utf8_encode(byte_level_char((unsigned char)byte), name));
        buf_printf(out, ":%d,", byte);
    }
    buf_str(out, "\"he\":256,\"ll\":257,\"hell\":258,\"\xC4\xA0w\":259,\"12\":260},"
                 "\"merges\":[\"h e\",\"l l\",[\"he\",\"ll\"],\"\xC4\xA0 w\",\"1 2\"]}}");
}

void sentencepiece_json(struct buf *out) {
    buf_str(out, "{\"added_tokens\":[");
    append_added(out, "<unk>", 0, true);
    append_added(out, "<s>", 1, true);
    append_added(out, "</s>", 2, true);
    buf_str(
        out,
        "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]},\"pre_tokenizer\":null,"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":["
        "\"<s>\"]}}},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},"
        "\"content\":\" \"},"
        "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
        "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{"
        "\"<unk>\":0,\"<s>\":1,\"</s>\":2,");
    for (int byte = 0; byte < 256; byte++) buf_printf(out, "\"<0x%02X>\":%d,", byte, byte + 3);
    buf_str(out, "\"\xE2\x96\x81\":259,\"a\":260,\"b\":261,\"c\":262,\"ab\":263,\"\xE2\x96\x81"
                 "ab\":264},\"merges\":[\"a b\",\"\xE2\x96\x81 ab\"]}}");
}

struct tokenizer *tokenizer_of(void (*json)(struct buf *out)) {
    static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"add_bos_token\":true}";
    struct buf text = {0};
    json(&text);
    struct tokenizer *t = NULL;
    struct error e = {0};
    err_id id = tokenizer_create((struct bytes){text.data, text.len}, (struct bytes){config, sizeof config - 1}, &t, &e);
    if (id != ERR_NONE) fprintf(stderr, "%s\n", error_text(&e));
    CHECK(id == ERR_NONE);
    buf_free(&text);
    return t;
}

// splitmix64
uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
