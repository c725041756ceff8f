#include "worker/gguf/pretokenizers.h"
#include <stdio.h>
#include <string.h>
#include "common/base/check.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3       CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" TAIL
#define QWEN2        CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" TAIL
#define UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define TEKKEN                                                                                                              \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER                                     \
    "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct pretokenizer_kind kinds[] = {
    {.name = "gpt-2"},
    {.name = "smollm", .digits = true},
    {.name = "starcoder", .digits = true},
    {.name = "refact", .digits = true},
    {.name = "command-r", .digits = true, .nfc = true},
    {.name = "llama-bpe", .pattern = LLAMA3, .ignore_merges = true, .adds_bos = true},
    {.name = "llama3", .pattern = LLAMA3, .ignore_merges = true, .adds_bos = true},
    {.name = "llama-v3", .pattern = LLAMA3, .ignore_merges = true, .adds_bos = true},
    {.name = "qwen2", .pattern = QWEN2, .nfc = true},
    {.name = "deepseek-r1-qwen", .pattern = QWEN2, .nfc = true},
    {.name = "tekken", .pattern = TEKKEN, .ignore_merges = true, .adds_bos = true},
};

err_id pretokenizer_find(struct gguf_text name, const struct pretokenizer_kind **kind, struct error *e) {
    char known[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        *kind = &kinds[i];
        if (name.len == strlen(kinds[i].name) && memcmp(name.data, kinds[i].name, name.len) == 0) return ERR_NONE;
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n > 0 ? ", " : "", kinds[i].name);
    }
    return error_set(e, ERR_UNSUPPORTED,
                     "the pre-tokenizer \"%.*s\" (tokenizer.ggml.pre) is not supported; supported are %s",
                     (int)(name.len < 60 ? name.len : 60), name.data, known);
}

json_t *pretokenizer_json(const struct pretokenizer_kind *k) {
    json_t *list = json_array();
    if (k->digits) json_array_append_new(list, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    if (k->pattern != NULL) {
        json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", k->pattern,
                                              "behavior", "Isolated", "invert", 0));
    }
    json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets",
                                          1, "use_regex", k->pattern == NULL));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}
