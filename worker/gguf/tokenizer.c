// tokenizer.json and tokenizer_config.json from the metadata.
//
// A SentencePiece-style vocabulary has scores instead of merges: merging picks the pair whose joined token scores best. The
// same is said by a list of merges, best score first (of equal scores the longer pair first), which is how transformers
// converts such a vocabulary too.
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/gguf/documents.h"
#include "worker/gguf/pretokenizers.h"

enum { TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER = 4, TOKENS_MAX = 1 << 22, TOKEN_BYTES_MAX = 4096 };

struct vocabulary {
    const struct gguf *g;
    uint64_t n;
    struct gguf_text *tokens;
    const struct gguf_value *types, *scores; // or NULL
    const struct pretokenizer_kind *kind;    // NULL: SentencePiece-style
    json_t *ids;                             // token -> id
};

static err_id array(const struct gguf *g, const char *key, uint64_t n, const struct gguf_value **out, struct error *e) {
    *out = gguf_find(g, key);
    if (*out == NULL) return ERR_NONE;
    if ((*out)->kind != GGUF_ARRAY || (*out)->element == GGUF_STRING || (*out)->count != n)
        return error_set(e, ERR_MODEL_FILES, "the metadata \"%s\" must have one number per token", key);
    return ERR_NONE;
}

static err_id kind_of(struct vocabulary *v, struct error *e) {
    struct gguf_text model = {"", 0}, pre = {"default", 7};
    TRY(gguf_string(v->g, "tokenizer.ggml.model", &model, e));
    if (model.len == 5 && memcmp(model.data, "llama", 5) == 0) return ERR_NONE;
    if (model.len != 4 || memcmp(model.data, "gpt2", 4) != 0) {
        return error_set(e, ERR_UNSUPPORTED,
                         "the tokenizer \"%.*s\" (tokenizer.ggml.model) is not supported; gpt2 and llama are",
                         (int)(model.len < 60 ? model.len : 60), model.data);
    }
    TRY(gguf_string(v->g, "tokenizer.ggml.pre", &pre, e));
    return pretokenizer_find(pre, &v->kind, e);
}

static err_id read_tokens(struct vocabulary *v, struct error *e) {
    const struct gguf_value *list = gguf_find(v->g, "tokenizer.ggml.tokens");
    if (list == NULL || list->kind != GGUF_ARRAY || list->element != GGUF_STRING || list->count > TOKENS_MAX)
        return error_set(e, ERR_MODEL_FILES, "the metadata \"tokenizer.ggml.tokens\" must be a list of at most %d strings",
                         TOKENS_MAX);
    v->n = list->count;
    v->tokens = xmalloc((v->n + 1) * sizeof *v->tokens);
    v->ids = json_object();
    const uint8_t *at = list->data;
    for (uint64_t i = 0; i < v->n; i++) {
        struct gguf_text t = v->tokens[i] = gguf_next_string(&at);
        bool usable = t.len <= TOKEN_BYTES_MAX && memchr(t.data, 0, t.len) == NULL;
        if (usable && json_object_getn(v->ids, t.data, t.len) != NULL)
            return error_set(e, ERR_MODEL_FILES, "two tokens are both \"%.*s\"", (int)(t.len < 60 ? t.len : 60), t.data);
        if (!usable || json_object_setn_new(v->ids, t.data, t.len, json_integer((json_int_t)i)) != 0)
            return error_set(e, ERR_MODEL_FILES, "token %llu is too long or not UTF-8", (unsigned long long)i);
    }
    TRY(array(v->g, "tokenizer.ggml.token_type", v->n, &v->types, e));
    return array(v->g, "tokenizer.ggml.scores", v->n, &v->scores, e);
}

static void fini(struct vocabulary *v) {
    free(v->tokens);
    json_decref(v->ids);
}

static err_id init(struct vocabulary *v, const struct gguf *g, struct error *e) {
    *v = (struct vocabulary){.g = g};
    err_id id = kind_of(v, e);
    if (id == ERR_NONE) id = read_tokens(v, e);
    if (id != ERR_NONE) fini(v);
    return id;
}

// ---- merges ----

static err_id listed_merges(const struct vocabulary *v, json_t **out, struct error *e) {
    const struct gguf_value *list = gguf_find(v->g, "tokenizer.ggml.merges");
    if (list == NULL || list->kind != GGUF_ARRAY || list->element != GGUF_STRING)
        return error_set(e, ERR_MODEL_FILES, "the metadata \"tokenizer.ggml.merges\" must be a list of strings");
    *out = json_array();
    const uint8_t *at = list->data;
    for (uint64_t i = 0; i < list->count; i++) {
        struct gguf_text t = gguf_next_string(&at);
        if (json_array_append_new(*out, json_stringn(t.data, t.len)) == 0) continue;
        json_decref(*out);
        return error_set(e, ERR_MODEL_FILES, "merge %llu is not UTF-8", (unsigned long long)i);
    }
    return ERR_NONE;
}

struct merge {
    double score;
    struct gguf_text left, right;
    uint32_t left_chars, right_chars;
    json_int_t left_id, right_id;
};

static int by_score(const void *a, const void *b) {
    const struct merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left_chars != y->left_chars) return x->left_chars > y->left_chars ? -1 : 1;
    if (x->right_chars != y->right_chars) return x->right_chars > y->right_chars ? -1 : 1;
    if (x->left_id != y->left_id) return x->left_id < y->left_id ? -1 : 1;
    return x->right_id < y->right_id ? -1 : x->right_id > y->right_id;
}

static uint32_t characters(struct gguf_text t) {
    uint32_t n = 0;
    for (uint64_t i = 0; i < t.len; i++) n += (t.data[i] & 0xc0) != 0x80;
    return n;
}

struct merges {
    struct merge *list;
    size_t n, capacity;
};

// Every way to put token i together from two others.
static void split(const struct vocabulary *v, uint64_t i, struct merges *m) {
    struct gguf_text t = v->tokens[i];
    for (uint64_t cut = 1; cut < t.len; cut++) {
        if ((t.data[cut] & 0xc0) == 0x80) continue;
        const json_t *left = json_object_getn(v->ids, t.data, cut);
        const json_t *right = left == NULL ? NULL : json_object_getn(v->ids, t.data + cut, t.len - cut);
        if (right == NULL) continue;
        if (m->n == m->capacity) {
            m->capacity = m->capacity == 0 ? 1024 : 2 * m->capacity;
            m->list = xrealloc(m->list, m->capacity * sizeof *m->list);
        }
        struct merge *to = &m->list[m->n++];
        *to = (struct merge){.left = {t.data, cut}, .right = {t.data + cut, t.len - cut}};
        to->score = gguf_element_number(v->scores, i);
        to->left_chars = characters(to->left), to->right_chars = characters(to->right);
        to->left_id = json_integer_value(left), to->right_id = json_integer_value(right);
    }
}

static err_id scored_merges(const struct vocabulary *v, json_t **out, struct error *e) {
    if (v->scores == NULL) return error_set(e, ERR_MODEL_FILES, "the metadata \"tokenizer.ggml.scores\" is missing");
    struct merges m = {0};
    for (uint64_t i = 0; i < v->n; i++) split(v, i, &m);
    if (m.n > 1) qsort(m.list, m.n, sizeof *m.list, by_score);
    *out = json_array();
    for (size_t i = 0; i < m.n; i++) {
        json_array_append_new(*out, json_pack("[s%, s%]", m.list[i].left.data, (size_t)m.list[i].left.len,
                                              m.list[i].right.data, (size_t)m.list[i].right.len));
    }
    free(m.list);
    return ERR_NONE;
}

// ---- tokenizer.json ----

static json_t *added(const struct vocabulary *v) {
    json_t *list = json_array();
    for (uint64_t i = 0; v->types != NULL && i < v->n; i++) {
        int64_t type = gguf_element_int(v->types, i);
        bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
        if ((!special && type != TOKEN_USER) || v->tokens[i].len == 0) continue;
        json_t *entry = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content", v->tokens[i].data,
                                  (size_t)v->tokens[i].len, "special", special, "normalized", 0, "lstrip", 0, "rstrip", 0,
                                  "single_word", 0);
        json_array_append_new(list, entry);
    }
    return list;
}

static err_id byte_level(const struct vocabulary *v, json_t *t, struct error *e) {
    json_t *merges = NULL;
    TRY(listed_merges(v, &merges, e));
    json_object_set_new(t, "normalizer", v->kind->nfc ? json_pack("{s:s}", "type", "NFC") : json_null());
    json_object_set_new(t, "pre_tokenizer", pretokenizer_json(v->kind));
    json_object_set_new(t, "decoder", json_pack("{s:s}", "type", "ByteLevel"));
    json_object_set_new(t, "model",
                        json_pack("{s:s, s:O, s:o, s:b}", "type", "BPE", "vocab", v->ids, "merges", merges, "ignore_merges",
                                  v->kind->ignore_merges));
    return ERR_NONE;
}

static json_t *spaces_normalizer(bool prefix) {
    json_t *list = json_array();
    if (prefix) json_array_append_new(list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "\xe2\x96\x81"));
    json_array_append_new(
        list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", "\xe2\x96\x81"));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", list);
}

static json_t *spaces_decoder(bool prefix) {
    json_t *list = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String", "\xe2\x96\x81",
                             "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (prefix)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
}

static err_id sentencepiece(const struct vocabulary *v, json_t *t, struct error *e) {
    bool prefix = true;
    uint64_t unknown = 0;
    TRY(gguf_bool(v->g, "tokenizer.ggml.add_space_prefix", &prefix, e));
    TRY(gguf_u64(v->g, "tokenizer.ggml.unknown_token_id", &unknown, e));
    json_t *merges = NULL;
    TRY(scored_merges(v, &merges, e));
    json_object_set_new(t, "normalizer", spaces_normalizer(prefix));
    json_object_set_new(t, "decoder", spaces_decoder(prefix));
    json_t *model = json_pack("{s:s, s:O, s:o, s:b, s:b}", "type", "BPE", "vocab", v->ids, "merges", merges, "byte_fallback",
                              1, "fuse_unk", 1);
    if (unknown < v->n)
        json_object_set_new(model, "unk_token", json_stringn(v->tokens[unknown].data, v->tokens[unknown].len));
    json_object_set_new(t, "model", model);
    return ERR_NONE;
}

err_id gguf_tokenizer(const struct gguf *g, json_t **out, struct error *e) {
    struct vocabulary v;
    TRY(init(&v, g, e));
    json_t *t = json_pack("{s:s}", "version", "1.0");
    err_id id = (v.kind != NULL ? byte_level : sentencepiece)(&v, t, e);
    if (id == ERR_NONE) {
        json_object_set_new(t, "added_tokens", added(&v));
        *out = t;
    } else {
        json_decref(t);
    }
    fini(&v);
    return id;
}

// ---- tokenizer_config.json ----

static err_id special(const struct vocabulary *v, const char *key, const char *as, json_t *c, struct error *e) {
    uint64_t id = UINT64_MAX;
    TRY(gguf_u64(v->g, key, &id, e));
    if (id == UINT64_MAX) return ERR_NONE;
    if (id >= v->n) return error_set(e, ERR_MODEL_FILES, "\"%s\" names a token that is not in the vocabulary", key);
    json_object_set_new(c, as, json_stringn(v->tokens[id].data, v->tokens[id].len));
    return ERR_NONE;
}

static err_id fill_config(const struct vocabulary *v, json_t *c, struct error *e) {
    TRY(special(v, "tokenizer.ggml.bos_token_id", "bos_token", c, e));
    TRY(special(v, "tokenizer.ggml.eos_token_id", "eos_token", c, e));
    TRY(special(v, "tokenizer.ggml.unknown_token_id", "unk_token", c, e));
    TRY(special(v, "tokenizer.ggml.padding_token_id", "pad_token", c, e));
    bool bos = v->kind == NULL || v->kind->adds_bos, eos = false;
    TRY(gguf_bool(v->g, "tokenizer.ggml.add_bos_token", &bos, e));
    TRY(gguf_bool(v->g, "tokenizer.ggml.add_eos_token", &eos, e));
    json_object_set_new(c, "add_bos_token", json_boolean(bos));
    json_object_set_new(c, "add_eos_token", json_boolean(eos));
    struct gguf_text chat = {NULL, 0};
    TRY(gguf_string(v->g, "tokenizer.chat_template", &chat, e));
    if (chat.data != NULL && json_object_set_new(c, "chat_template", json_stringn(chat.data, chat.len)) != 0)
        return error_set(e, ERR_MODEL_FILES, "the metadata \"tokenizer.chat_template\" is not UTF-8");
    return ERR_NONE;
}

err_id gguf_tokenizer_config(const struct gguf *g, json_t **out, struct error *e) {
    struct vocabulary v;
    TRY(init(&v, g, e));
    json_t *c = json_object();
    err_id id = fill_config(&v, c, e);
    if (id == ERR_NONE) {
        *out = c;
    } else {
        json_decref(c);
    }
    fini(&v);
    return id;
}
