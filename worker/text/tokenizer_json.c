// The pipeline sections: normalizer, pre_tokenizer, decoder, post_processor. A section is one step or a Sequence of them.
#include "worker/text/tokenizer_json.h"

#include "common/base/check.h"
#include "worker/text/json_read.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { SECTION_DEPTH_MAX = 8, SECTION_STEPS_MAX = 256 };

// GPT-2's pattern, which ByteLevel uses with use_regex.
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

err_id tokenizer_json_pattern(const json_t *object, const char *where, struct regex **out, struct error *e) {
    const json_t *pattern = json_object_get(object, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
    const json_t *text = json_is_string(regex) ? regex : string;
    if (!json_is_string(text))
        return error_set(e, ERR_MODEL_FILES, "%s: \"pattern\" must be {\"Regex\": …} or {\"String\": …}", where);
    err_id id = regex_create(json_string_value(text), json_string_length(text), text == string, out, e);
    return id == ERR_NONE ? ERR_NONE : error_wrap(e, "%s", where);
}

err_id tokenizer_json_character(const json_t *object, const char *key, const char *where, uint32_t *out, struct error *e) {
    const char *s;
    size_t len;
    TRY(json_read_string(object, key, where, &s, &len, e));
    if (len == 0 || utf8_next(s, len, out) != len)
        return error_set(e, ERR_MODEL_FILES, "%s: \"%s\" must be one character", where, key);
    return ERR_NONE;
}

// ---- sequences ----

typedef err_id step_reader(struct tokenizer *t, const json_t *step, const char *kind, struct error *e);

struct section {
    const char *where, *list_key; // "tokenizer.json: normalizer", "normalizers"
    step_reader *read;
};

static err_id read_section(const struct section *s, struct tokenizer *t, const json_t *step, int depth, size_t *n_steps,
                           struct error *e) {
    if (step == NULL || json_is_null(step)) return ERR_NONE;
    const char *kind;
    size_t len;
    TRY(json_read_string(step, "type", s->where, &kind, &len, e));
    if (depth > SECTION_DEPTH_MAX || ++*n_steps > SECTION_STEPS_MAX)
        return error_set(e, ERR_MODEL_FILES, "%s: more than %d steps, or nested over %d deep", s->where, SECTION_STEPS_MAX,
                         SECTION_DEPTH_MAX);
    if (strcmp(kind, "Sequence") != 0) return s->read(t, step, kind, e);
    const json_t *list;
    TRY(json_read_array(step, s->list_key, s->where, &list, e));
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(read_section(s, t, json_array_get(list, i), depth + 1, n_steps, e));
    return ERR_NONE;
}

static err_id unknown_kind(const char *where, const char *kind, struct error *e) {
    return error_set(e, ERR_MODEL_FILES, "%s: kind \"%s\" is not supported", where, kind);
}

// ---- normalizer ----

static const char in_normalizer[] = "tokenizer.json: normalizer";

static err_id read_normalizer_fields(const json_t *json, struct normalizer_step *step, struct error *e) {
    const char *content = NULL;
    if (step->kind == NORMALIZER_STRIP) {
        TRY(json_read_bool(json, "strip_left", true, in_normalizer, &step->strip_left, e));
        return json_read_bool(json, "strip_right", true, in_normalizer, &step->strip_right, e);
    }
    if (step->kind == NORMALIZER_PREPEND)
        TRY(json_read_string(json, "prepend", in_normalizer, &content, &step->content_len, e));
    if (step->kind == NORMALIZER_REPLACE) {
        TRY(json_read_string(json, "content", in_normalizer, &content, &step->content_len, e));
        TRY(tokenizer_json_pattern(json, in_normalizer, &step->pattern, e));
    }
    if (content != NULL) {
        step->content = xmalloc(step->content_len + 1);
        memcpy(step->content, content, step->content_len + 1);
    }
    return ERR_NONE;
}

static err_id read_normalizer(struct tokenizer *t, const json_t *json, const char *kind, struct error *e) {
    static const char *const kinds[] = {
        [NORMALIZER_NFC] = "NFC",
        [NORMALIZER_NFD] = "NFD",
        [NORMALIZER_NFKC] = "NFKC",
        [NORMALIZER_NFKD] = "NFKD",
        [NORMALIZER_LOWERCASE] = "Lowercase",
        [NORMALIZER_STRIP] = "Strip",
        [NORMALIZER_STRIP_ACCENTS] = "StripAccents",
        [NORMALIZER_REPLACE] = "Replace",
        [NORMALIZER_PREPEND] = "Prepend",
        [NORMALIZER_NMT] = "Nmt",
        [NORMALIZER_BYTE_LEVEL] = "ByteLevel",
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i]) != 0) continue;
        struct normalizer_step step = {.kind = (enum normalizer_kind)i};
        TRY(read_normalizer_fields(json, &step, e));
        normalizer_add(&t->normalizer, &step);
        return ERR_NONE;
    }
    return unknown_kind(in_normalizer, kind, e);
}

err_id tokenizer_json_normalizer(struct tokenizer *t, const json_t *section, struct error *e) {
    static const struct section s = {in_normalizer, "normalizers", read_normalizer};
    size_t n = 0;
    return read_section(&s, t, section, 0, &n, e);
}

// ---- pre_tokenizer ----

static const char in_pretokenizer[] = "tokenizer.json: pre_tokenizer";

static err_id read_behavior(const json_t *json, enum split_behavior absent, enum split_behavior *out, struct error *e) {
    static const char *const names[] = {
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_MERGED_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    *out = absent;
    if (json_object_get(json, "behavior") == NULL) return ERR_NONE;
    const char *name;
    size_t len;
    TRY(json_read_string(json, "behavior", in_pretokenizer, &name, &len, e));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum split_behavior)i;
            return ERR_NONE;
        }
    }
    return error_set(e, ERR_MODEL_FILES, "%s: behavior \"%s\" is not supported", in_pretokenizer, name);
}

static err_id read_metaspace(const json_t *json, const char *where, uint32_t *character, enum prepend_scheme *prepend,
                             struct error *e) {
    TRY(tokenizer_json_character(json, "replacement", where, character, e));
    bool prefix;
    TRY(json_read_bool(json, "add_prefix_space", true, where, &prefix, e));
    *prepend = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    const json_t *scheme = json_object_get(json, "prepend_scheme");
    if (scheme == NULL || !prefix) return ERR_NONE;
    const char *name = json_is_string(scheme) ? json_string_value(scheme) : "";
    static const char *const names[] = {[PREPEND_ALWAYS] = "always", [PREPEND_FIRST] = "first", [PREPEND_NEVER] = "never"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *prepend = (enum prepend_scheme)i;
        return ERR_NONE;
    }
    return error_set(e, ERR_MODEL_FILES, "%s: prepend_scheme must be always, first or never", where);
}

static err_id read_pretokenizer_fields(const json_t *json, struct pretokenizer_step *step, struct error *e) {
    bool flag;
    switch (step->kind) {
    case PRETOKENIZER_SPLIT:
        TRY(json_read_bool(json, "invert", false, in_pretokenizer, &step->invert, e));
        TRY(read_behavior(json, SPLIT_ISOLATED, &step->behavior, e));
        return tokenizer_json_pattern(json, in_pretokenizer, &step->pattern, e);
    case PRETOKENIZER_DIGITS:
        TRY(json_read_bool(json, "individual_digits", false, in_pretokenizer, &flag, e));
        step->behavior = flag ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
        return ERR_NONE;
    case PRETOKENIZER_PUNCTUATION:
        return read_behavior(json, SPLIT_ISOLATED, &step->behavior, e);
    case PRETOKENIZER_DELIMITER:
        return tokenizer_json_character(json, "delimiter", in_pretokenizer, &step->character, e);
    case PRETOKENIZER_METASPACE:
        step->behavior = SPLIT_MERGED_NEXT;
        TRY(json_read_bool(json, "split", true, in_pretokenizer, &step->split, e));
        return read_metaspace(json, in_pretokenizer, &step->character, &step->prepend, e);
    case PRETOKENIZER_BYTE_LEVEL:
        step->behavior = SPLIT_ISOLATED;
        TRY(json_read_bool(json, "add_prefix_space", true, in_pretokenizer, &step->add_prefix_space, e));
        TRY(json_read_bool(json, "use_regex", true, in_pretokenizer, &flag, e));
        return flag ? regex_create(gpt2_pattern, sizeof gpt2_pattern - 1, false, &step->pattern, e) : ERR_NONE;
    default:
        return ERR_NONE; // WHITESPACE, WHITESPACE_SPLIT: SPLIT_REMOVED, nothing to say
    }
}

static err_id read_pretokenizer(struct tokenizer *t, const json_t *json, const char *kind, struct error *e) {
    static const char *const kinds[] = {
        [PRETOKENIZER_SPLIT] = "Split",
        [PRETOKENIZER_DIGITS] = "Digits",
        [PRETOKENIZER_PUNCTUATION] = "Punctuation",
        [PRETOKENIZER_WHITESPACE] = "Whitespace",
        [PRETOKENIZER_WHITESPACE_SPLIT] = "WhitespaceSplit",
        [PRETOKENIZER_DELIMITER] = "CharDelimiterSplit",
        [PRETOKENIZER_METASPACE] = "Metaspace",
        [PRETOKENIZER_BYTE_LEVEL] = "ByteLevel",
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i]) != 0) continue;
        struct pretokenizer_step step = {.kind = (enum pretokenizer_kind)i};
        TRY(read_pretokenizer_fields(json, &step, e));
        pretokenizer_add(&t->pretokenizer, &step);
        return ERR_NONE;
    }
    return unknown_kind(in_pretokenizer, kind, e);
}

err_id tokenizer_json_pretokenizer(struct tokenizer *t, const json_t *section, struct error *e) {
    static const struct section s = {in_pretokenizer, "pretokenizers", read_pretokenizer};
    size_t n = 0;
    TRY(read_section(&s, t, section, 0, &n, e));
    struct pretokenizer *p = &t->pretokenizer;
    if (p->n_steps > 0 && p->steps[p->n_steps - 1].kind == PRETOKENIZER_BYTE_LEVEL) {
        p->steps[p->n_steps - 1].keep_bytes = t->bpe.over_bytes = true;
    }
    return ERR_NONE;
}

// ---- decoder ----

static const char in_decoder[] = "tokenizer.json: decoder";

static err_id read_decoder_fields(const json_t *json, struct decoder_step *step, struct error *e) {
    const char *content;
    enum prepend_scheme prepend;
    switch (step->kind) {
    case DECODER_REPLACE:
        TRY(json_read_string(json, "content", in_decoder, &content, &step->content_len, e));
        TRY(tokenizer_json_pattern(json, in_decoder, &step->pattern, e));
        step->content = xmalloc(step->content_len + 1);
        memcpy(step->content, content, step->content_len + 1);
        return ERR_NONE;
    case DECODER_STRIP:
        TRY(tokenizer_json_character(json, "content", in_decoder, &step->character, e));
        TRY(json_read_size(json, "start", 1 << 20, in_decoder, &step->strip_start, e));
        return json_read_size(json, "stop", 1 << 20, in_decoder, &step->strip_stop, e);
    case DECODER_METASPACE:
        TRY(read_metaspace(json, in_decoder, &step->character, &prepend, e));
        step->drops_first = prepend != PREPEND_NEVER;
        return ERR_NONE;
    default:
        return ERR_NONE;
    }
}

static err_id read_decoder(struct tokenizer *t, const json_t *json, const char *kind, struct error *e) {
    static const char *const kinds[] = {
        [DECODER_BYTE_LEVEL] = "ByteLevel",
        [DECODER_REPLACE] = "Replace",
        [DECODER_STRIP] = "Strip",
        [DECODER_METASPACE] = "Metaspace",
        [DECODER_BYTE_FALLBACK] = "ByteFallback",
        [DECODER_FUSE] = "Fuse",
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i]) != 0) continue;
        struct decoder_step step = {.kind = (enum decoder_kind)i};
        TRY(read_decoder_fields(json, &step, e));
        err_id id = decoder_add(&t->decoder, &step, e);
        return id == ERR_NONE ? ERR_NONE : error_wrap(e, "tokenizer.json");
    }
    return unknown_kind(in_decoder, kind, e);
}

err_id tokenizer_json_decoder(struct tokenizer *t, const json_t *section, struct error *e) {
    static const struct section s = {in_decoder, "decoders", read_decoder};
    size_t n = 0;
    TRY(read_section(&s, t, section, 0, &n, e));
    // A Sequence of nothing decodes to the plain strings, as Fuse does; only no decoder at all puts spaces between.
    if (n > 0 && t->decoder.n_steps == 0) t->decoder.fused = true;
    return ERR_NONE;
}

// ---- post_processor ----

static const char in_postprocessor[] = "tokenizer.json: post_processor";

static void put_around(struct tokenizer *t, const struct ids *before, const struct ids *behind) {
    struct ids all = {0};
    for (size_t i = 0; i < before->len; i++) ids_push(&all, before->data[i]);
    for (size_t i = 0; i < t->before.len; i++) ids_push(&all, t->before.data[i]);
    ids_free(&t->before);
    t->before = all;
    for (size_t i = 0; i < behind->len; i++) ids_push(&t->behind, behind->data[i]);
}

// "special_tokens": {"<s>": {"ids": [1]}}
static err_id read_template_ids(const json_t *json, const char *name, struct ids *out, struct error *e) {
    const json_t *ids = json_object_get(json_object_get(json_object_get(json, "special_tokens"), name), "ids");
    if (!json_is_array(ids))
        return error_set(e, ERR_MODEL_FILES, "%s: special token \"%s\" has no ids", in_postprocessor, name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= TOKEN_ID_MAX)
            return error_set(e, ERR_MODEL_FILES, "%s: ids of \"%s\" must be token ids", in_postprocessor, name);
        ids_push(out, (uint32_t)json_integer_value(id));
    }
    return ERR_NONE;
}

static err_id read_template_item(const json_t *json, const json_t *item, struct ids *before, struct ids *behind,
                                 int *n_texts, struct error *e) {
    const json_t *special = json_object_get(item, "SpecialToken"), *sequence = json_object_get(item, "Sequence");
    const char *id;
    size_t len;
    TRY(json_read_string(special ? special : sequence, "id", in_postprocessor, &id, &len, e));
    if (special != NULL) return read_template_ids(json, id, *n_texts ? behind : before, e);
    if (strcmp(id, "A") != 0 || ++*n_texts > 1)
        return error_set(e, ERR_MODEL_FILES, "%s: \"single\" must hold the sequence A once", in_postprocessor);
    return ERR_NONE;
}

static err_id read_template(struct tokenizer *t, const json_t *json, struct error *e) {
    const json_t *single;
    TRY(json_read_array(json, "single", in_postprocessor, &single, e));
    struct ids before = {0}, behind = {0};
    int n_texts = 0;
    err_id id = ERR_NONE;
    for (size_t i = 0; i < json_array_size(single) && id == ERR_NONE; i++)
        id = read_template_item(json, json_array_get(single, i), &before, &behind, &n_texts, e);
    if (id == ERR_NONE && n_texts != 1)
        id = error_set(e, ERR_MODEL_FILES, "%s: \"single\" must hold the sequence A once", in_postprocessor);
    if (id == ERR_NONE) put_around(t, &before, &behind);
    ids_free(&before);
    ids_free(&behind);
    return id;
}

// {"sep": ["</s>", 2], "cls": ["<s>", 0]}
static err_id read_pair_token(const json_t *json, const char *key, struct ids *out, struct error *e) {
    const json_t *id = json_array_get(json_object_get(json, key), 1);
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= TOKEN_ID_MAX)
        return error_set(e, ERR_MODEL_FILES, "%s: \"%s\" must be [token, id]", in_postprocessor, key);
    ids_push(out, (uint32_t)json_integer_value(id));
    return ERR_NONE;
}

static err_id read_postprocessor(struct tokenizer *t, const json_t *json, const char *kind, struct error *e) {
    if (strcmp(kind, "ByteLevel") == 0) return ERR_NONE; // about offsets only
    if (strcmp(kind, "TemplateProcessing") == 0) return read_template(t, json, e);
    if (strcmp(kind, "RobertaProcessing") != 0 && strcmp(kind, "BertProcessing") != 0)
        return unknown_kind(in_postprocessor, kind, e);
    struct ids before = {0}, behind = {0};
    err_id id = read_pair_token(json, "cls", &before, e);
    if (id == ERR_NONE) id = read_pair_token(json, "sep", &behind, e);
    if (id == ERR_NONE) put_around(t, &before, &behind);
    ids_free(&before);
    ids_free(&behind);
    return id;
}

err_id tokenizer_json_postprocessor(struct tokenizer *t, const json_t *section, struct error *e) {
    static const struct section s = {in_postprocessor, "processors", read_postprocessor};
    size_t n = 0;
    return read_section(&s, t, section, 0, &n, e);
}
