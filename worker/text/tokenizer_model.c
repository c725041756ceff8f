// The vocabulary sections of tokenizer.json: model (BPE) and added_tokens.
#include "common/base/check.h"
#include "worker/text/byte_level.h"
#include "worker/text/json_read.h"
#include "worker/text/tokenizer_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char in_model[] = "tokenizer.json: model";
static const char in_added[] = "tokenizer.json: added_tokens";

// ---- model ----

static err_id read_vocab(struct tokenizer *t, const json_t *model, struct error *e) {
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab)) return error_set(e, ERR_MODEL_FILES, "%s: \"vocab\" must be an object", in_model);
    const char *name;
    json_t *id;
    json_object_foreach(vocab, name, id) {
        json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
        if (n < 0 || n >= TOKEN_ID_MAX)
            return error_set(e, ERR_MODEL_FILES, "%s: the id of \"%.60s\" must be an integer from 0 to %d", in_model, name,
                             TOKEN_ID_MAX - 1);
        if (!vocab_add(&t->names, (uint32_t)n, name, strlen(name)))
            return error_set(e, ERR_MODEL_FILES, "%s: two tokens have the id %lld", in_model, (long long)n);
    }
    return ERR_NONE;
}

// The strings that merging starts from: raw bytes for a byte-level vocabulary, the names otherwise.
static void make_units(struct tokenizer *t) {
    struct buf raw = {0};
    for (uint32_t id = 0; id < t->names.n_ids; id++) {
        struct bytes name = vocab_string(&t->names, id);
        if (name.data == NULL) continue;
        if (!t->bpe.over_bytes) {
            vocab_add(&t->bpe.units, id, name.data, name.len);
            continue;
        }
        buf_reset(&raw);
        // A name with other characters can't come out of a text's bytes: it has no unit.
        if (byte_level_decode(name.data, name.len, &raw)) vocab_add(&t->bpe.units, id, raw.data ? raw.data : "", raw.len);
    }
    buf_free(&raw);
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte, code[8];
        snprintf(code, sizeof code, "<0x%02X>", byte);
        t->bpe.byte_unit[byte] = t->bpe.over_bytes ? vocab_find(&t->bpe.units, &c, 1) : vocab_find(&t->names, code, 6);
    }
}

// A merge is "left right" or ["left", "right"].
static bool split_merge(const json_t *merge, struct bytes *left, struct bytes *right) {
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        const json_t *l = json_array_get(merge, 0), *r = json_array_get(merge, 1);
        if (!json_is_string(l) || !json_is_string(r)) return false;
        *left = (struct bytes){json_string_value(l), json_string_length(l)};
        *right = (struct bytes){json_string_value(r), json_string_length(r)};
        return true;
    }
    if (!json_is_string(merge)) return false;
    const char *s = json_string_value(merge), *space = strchr(s, ' ');
    size_t len = json_string_length(merge);
    if (space == NULL || memchr(space + 1, ' ', len - (size_t)(space + 1 - s)) != NULL) return false;
    *left = (struct bytes){s, (size_t)(space - s)};
    *right = (struct bytes){space + 1, len - left->len - 1};
    return true;
}

static err_id add_merge(struct tokenizer *t, const json_t *merge, uint32_t rank, size_t prefix_len, struct buf *both,
                        struct error *e) {
    struct bytes left, right;
    if (!split_merge(merge, &left, &right))
        return error_set(e, ERR_MODEL_FILES, "%s: merge %u must be \"left right\" or [\"left\", \"right\"]", in_model, rank);
    uint32_t l = vocab_find(&t->names, left.data, left.len), r = vocab_find(&t->names, right.data, right.len);
    if (l == TOKEN_NONE || r == TOKEN_NONE || right.len < prefix_len)
        return error_set(e, ERR_MODEL_FILES, "%s: merge %u names a token that is not in the vocabulary", in_model, rank);
    buf_reset(both);
    buf_append(both, left.data, left.len);
    buf_append(both, right.data + prefix_len, right.len - prefix_len);
    uint32_t merged = vocab_find(&t->names, both->data, both->len);
    if (merged == TOKEN_NONE)
        return error_set(e, ERR_MODEL_FILES, "%s: merge %u makes \"%.60s\", which is not in the vocabulary", in_model, rank,
                         both->data);
    bpe_add_merge(&t->bpe, l, r, rank, merged);
    return ERR_NONE;
}

static err_id read_merges(struct tokenizer *t, const json_t *model, struct error *e) {
    const json_t *merges;
    TRY(json_read_array(model, "merges", in_model, &merges, e));
    struct buf both = {0};
    size_t prefix_len = t->bpe.prefix ? strlen(t->bpe.prefix) : 0;
    err_id id = ERR_NONE;
    size_t n = json_array_size(merges);
    for (size_t i = 0; i < n && id == ERR_NONE; i++)
        id = add_merge(t, json_array_get(merges, i), (uint32_t)i, prefix_len, &both, e);
    buf_free(&both);
    return id;
}

// An optional string: NULL when absent, null or empty.
static err_id read_affix(const json_t *model, const char *key, char **out, struct error *e) {
    const json_t *value = json_object_get(model, key);
    if (value == NULL || json_is_null(value)) return ERR_NONE;
    const char *s;
    size_t len;
    TRY(json_read_string(model, key, in_model, &s, &len, e));
    if (len > 0) *out = xstrdup(s);
    return ERR_NONE;
}

static err_id read_model_flags(struct tokenizer *t, const json_t *model, struct error *e) {
    TRY(json_read_bool(model, "byte_fallback", false, in_model, &t->bpe.byte_fallback, e));
    TRY(json_read_bool(model, "fuse_unk", false, in_model, &t->bpe.fuse_unknown, e));
    TRY(json_read_bool(model, "ignore_merges", false, in_model, &t->bpe.ignore_merges, e));
    TRY(read_affix(model, "continuing_subword_prefix", &t->bpe.prefix, e));
    TRY(read_affix(model, "end_of_word_suffix", &t->bpe.suffix, e));
    const json_t *dropout = json_object_get(model, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return error_set(e, ERR_MODEL_FILES, "%s: dropout is for training and not supported", in_model);
    t->bpe.unknown = TOKEN_NONE;
    const json_t *unknown = json_object_get(model, "unk_token");
    if (unknown == NULL || json_is_null(unknown)) return ERR_NONE;
    const char *s;
    size_t len;
    TRY(json_read_string(model, "unk_token", in_model, &s, &len, e));
    t->bpe.unknown = vocab_find(&t->names, s, len);
    if (t->bpe.unknown == TOKEN_NONE)
        return error_set(e, ERR_MODEL_FILES, "%s: unk_token \"%.60s\" is not in the vocabulary", in_model, s);
    return ERR_NONE;
}

err_id tokenizer_json_model(struct tokenizer *t, const json_t *section, struct error *e) {
    const json_t *type = json_object_get(section, "type");
    if (json_is_string(type) && strcmp(json_string_value(type), "BPE") != 0)
        return error_set(e, ERR_MODEL_FILES, "%s: kind \"%s\" is not supported (only BPE is)", in_model,
                         json_string_value(type));
    if (!json_is_object(section)) return error_set(e, ERR_MODEL_FILES, "%s is missing", in_model);
    TRY(read_vocab(t, section, e));
    TRY(read_model_flags(t, section, e));
    make_units(t);
    TRY(read_merges(t, section, e));
    bpe_prepare(&t->bpe);
    return ERR_NONE;
}

// ---- added_tokens ----

struct added_entry {
    uint32_t id;
    const char *content;
    size_t len;
    bool special, normalized, single_word, left_strip, right_strip;
};

static err_id read_entry(const json_t *json, struct added_entry *a, struct error *e) {
    TRY(json_read_string(json, "content", in_added, &a->content, &a->len, e));
    TRY(json_read_size(json, "id", TOKEN_ID_MAX - 1, in_added, &a->id, e));
    TRY(json_read_bool(json, "special", false, in_added, &a->special, e));
    TRY(json_read_bool(json, "normalized", !a->special, in_added, &a->normalized, e));
    TRY(json_read_bool(json, "single_word", false, in_added, &a->single_word, e));
    TRY(json_read_bool(json, "lstrip", false, in_added, &a->left_strip, e));
    return json_read_bool(json, "rstrip", false, in_added, &a->right_strip, e);
}

static void set_flags(struct tokenizer *t, uint32_t id, uint8_t flags) {
    if (id >= t->n_ids) {
        t->flags = xrealloc(t->flags, id + 1);
        memset(t->flags + t->n_ids, 0, id + 1 - t->n_ids);
        t->n_ids = id + 1;
    }
    t->flags[id] = flags;
}

static err_id add_entry(struct tokenizer *t, struct added_entry *a, struct error *e) {
    if (a->len == 0) return ERR_NONE;
    // The model's own id for the same string wins, as in the reference.
    uint32_t known = vocab_find(&t->names, a->content, a->len);
    if (known != TOKEN_NONE) a->id = known;
    if (!vocab_add(&t->added, a->id, a->content, a->len))
        return error_set(e, ERR_MODEL_FILES, "%s: \"%.60s\" or its id %u is there twice", in_added, a->content, a->id);
    set_flags(t, a->id, (uint8_t)(TOKEN_ADDED | (a->special ? TOKEN_SPECIAL : 0)));
    struct added_token token = {a->id, a->left_strip, a->right_strip, a->single_word};
    if (!a->normalized) {
        added_tokens_add(&t->raw, a->content, a->len, &token);
        return ERR_NONE;
    }
    struct buf form = {0}, spare = {0};
    struct regex_scratch *scratch = regex_scratch_create();
    err_id id = normalizer_run(&t->normalizer, scratch, a->content, a->len, &form, &spare, e);
    if (id == ERR_NONE && form.len > 0) added_tokens_add(&t->normalized, form.data, form.len, &token);
    bool same = form.len == a->len && memcmp(form.data, a->content, a->len) == 0;
    if (id == ERR_NONE && !same && !vocab_add(&t->forms, a->id, form.data ? form.data : "", form.len))
        id = error_set(e, ERR_MODEL_FILES, "%s: \"%.60s\" is the same as another when normalised", in_added, a->content);
    regex_scratch_destroy(scratch);
    buf_free(&form);
    buf_free(&spare);
    return id;
}

err_id tokenizer_json_added(struct tokenizer *t, const json_t *section, struct error *e) {
    if (t->names.n_ids > 0) set_flags(t, t->names.n_ids - 1, 0);
    if (section == NULL || json_is_null(section)) return ERR_NONE;
    if (!json_is_array(section)) return error_set(e, ERR_MODEL_FILES, "%s must be an array", in_added);
    for (size_t i = 0; i < json_array_size(section); i++) {
        struct added_entry a;
        TRY(read_entry(json_array_get(section, i), &a, e));
        TRY(add_entry(t, &a, e));
    }
    return ERR_NONE;
}
