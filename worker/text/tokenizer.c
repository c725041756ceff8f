#include "worker/text/tokenizer.h"

#include "common/base/check.h"
#include "worker/text/detokenizer.h"
#include "worker/text/json_read.h"
#include "worker/text/tokenizer_json.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

void ids_push(struct ids *ids, uint32_t id) {
    if (ids->len == ids->cap) {
        ids->cap = ids->cap ? ids->cap * 2 : 64;
        ids->data = xrealloc(ids->data, ids->cap * sizeof *ids->data);
    }
    ids->data[ids->len++] = id;
}

void ids_free(struct ids *ids) {
    free(ids->data);
    *ids = (struct ids){0};
}

// ---- making one ----

void tokenizer_destroy(struct tokenizer *t) {
    if (t == NULL) return;
    added_tokens_fini(&t->raw);
    added_tokens_fini(&t->normalized);
    normalizer_fini(&t->normalizer);
    pretokenizer_fini(&t->pretokenizer);
    bpe_fini(&t->bpe);
    decoder_fini(&t->decoder);
    vocab_fini(&t->names);
    vocab_fini(&t->added);
    vocab_fini(&t->forms);
    free(t->flags);
    ids_free(&t->before);
    ids_free(&t->behind);
    free(t->bos_text);
    free(t->eos_text);
    free(t);
}

static void prepare_decoder(struct tokenizer *t) {
    struct bytes *names = xcalloc(t->n_ids + 1, sizeof *names);
    for (uint32_t id = 0; id < t->n_ids; id++) {
        names[id] = vocab_string(&t->forms, id);
        if (names[id].data == NULL) names[id] = tokenizer_token_name(t, id);
    }
    decoder_prepare(&t->decoder, names, t->n_ids);
    free(names);
}

static err_id read_tokenizer(struct tokenizer *t, const json_t *json, struct error *e) {
    if (!json_is_object(json)) return error_set(e, ERR_MODEL_FILES, "tokenizer.json must hold an object");
    TRY(tokenizer_json_normalizer(t, json_object_get(json, "normalizer"), e));
    TRY(tokenizer_json_pretokenizer(t, json_object_get(json, "pre_tokenizer"), e));
    TRY(tokenizer_json_decoder(t, json_object_get(json, "decoder"), e));
    TRY(tokenizer_json_postprocessor(t, json_object_get(json, "post_processor"), e));
    TRY(tokenizer_json_model(t, json_object_get(json, "model"), e));
    TRY(tokenizer_json_added(t, json_object_get(json, "added_tokens"), e));
    prepare_decoder(t);
    return ERR_NONE;
}

// "bos_token": "<s>" or {"content": "<s>", …}
static char *config_token(const json_t *config, const char *key) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return xstrdup(json_is_string(value) ? json_string_value(value) : "");
}

static err_id read_config(struct tokenizer *t, const json_t *config, struct error *e) {
    static const char where[] = "tokenizer_config.json";
    if (!json_is_object(config)) return error_set(e, ERR_MODEL_FILES, "%s must hold an object", where);
    t->bos_text = config_token(config, "bos_token");
    t->eos_text = config_token(config, "eos_token");
    t->bos = tokenizer_id(t, t->bos_text, strlen(t->bos_text));
    t->eos = tokenizer_id(t, t->eos_text, strlen(t->eos_text));
    TRY(json_read_bool(config, "add_bos_token", false, where, &t->adds_bos, e));
    return json_read_bool(config, "add_eos_token", false, where, &t->adds_eos, e);
}

err_id tokenizer_create(struct bytes tokenizer_json, struct bytes config_json, struct tokenizer **out, struct error *e) {
    struct tokenizer *t = xcalloc(1, sizeof *t);
    t->bos = t->eos = TOKEN_NONE;
    json_t *json = NULL;
    err_id id = json_read_document(tokenizer_json, "tokenizer.json", &json, e);
    if (id == ERR_NONE) id = read_tokenizer(t, json, e);
    json_decref(json);
    json = NULL;
    if (id == ERR_NONE && config_json.data != NULL) {
        id = json_read_document(config_json, "tokenizer_config.json", &json, e);
        if (id == ERR_NONE) id = read_config(t, json, e);
        json_decref(json);
    }
    if (id != ERR_NONE) {
        tokenizer_destroy(t);
        return id;
    }
    *out = t;
    return ERR_NONE;
}

// ---- encoding ----

struct encoder {
    const struct tokenizer *t;
    struct regex_scratch *regex;
    struct bpe_scratch bpe;
    struct pretokenize_scratch pieces;
    struct buf repaired, normal, spare;
    struct ids *out;
    bool parse_added;
    bool has_new;
};

static err_id encode_plain(struct encoder *c, const char *s, size_t n, bool at_start, struct error *e) {
    struct pretokenize_input input = {s, n, at_start, c->has_new};
    TRY(pretokenize(&c->t->pretokenizer, &input, c->regex, &c->pieces, e));
    for (size_t i = 0; i < c->pieces.n_pieces; i++) {
        struct piece p = c->pieces.pieces[i];
        bpe_encode(&c->t->bpe, &c->bpe, c->pieces.text + p.start, p.end - p.start, c->out);
    }
    return ERR_NONE;
}

typedef err_id plain_part(struct encoder *c, const char *s, size_t n, bool at_start, struct error *e);

// Puts the ids of added tokens out and hands what is between them on.
static err_id encode_around(struct encoder *c, const struct added_tokens *added, const char *s, size_t n, bool at_start,
                            plain_part *part, struct error *e) {
    size_t at = 0, done = 0;
    struct added_match m;
    while (c->parse_added && added_tokens_next(added, s, n, &at, done, &m)) {
        if (done < m.start) TRY(part(c, s + done, m.start - done, at_start && done == 0, e));
        ids_push(c->out, m.id);
        done = m.end;
    }
    return done < n ? part(c, s + done, n - done, at_start && done == 0, e) : ERR_NONE;
}

static err_id encode_normal(struct encoder *c, const char *s, size_t n, bool at_start, struct error *e) {
    const struct normalizer *normalizer = &c->t->normalizer;
    if (normalizer->n_steps > 0) {
        TRY(normalizer_run(normalizer, c->regex, s, n, &c->normal, &c->spare, e));
        s = c->normal.data ? c->normal.data : "", n = c->normal.len;
        c->has_new = c->has_new || unicode_has_new(s, n);
    }
    return encode_around(c, &c->t->normalized, s, n, at_start, encode_plain, e);
}

static void push_all(struct ids *out, const struct ids *ids) {
    for (size_t i = 0; i < ids->len; i++) ids_push(out, ids->data[i]);
}

static err_id encode_text(struct encoder *c, const char *s, size_t n, unsigned flags, struct error *e) {
    const struct tokenizer *t = c->t;
    bool special = flags & ENCODE_ADD_SPECIAL, from_config = t->before.len + t->behind.len == 0;
    if (special) push_all(c->out, &t->before);
    if (special && from_config && t->adds_bos && t->bos != TOKEN_NONE) ids_push(c->out, t->bos);
    TRY(encode_around(c, &t->raw, s, n, true, encode_normal, e));
    if (special) push_all(c->out, &t->behind);
    if (special && from_config && t->adds_eos && t->eos != TOKEN_NONE) ids_push(c->out, t->eos);
    return ERR_NONE;
}

err_id tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags, struct ids *out,
                        struct error *e) {
    if (len > TEXT_BYTES_MAX)
        return error_set(e, ERR_TOO_LARGE, "the text has %zu bytes, more than %d", len, TEXT_BYTES_MAX);
    struct encoder c = {.t = t, .out = out, .parse_added = flags & ENCODE_PARSE_ADDED};
    c.regex = regex_scratch_create();
    if (utf8_valid_prefix(text, len) != len) {
        utf8_append_lossy(&c.repaired, text, len, false);
        text = c.repaired.data, len = c.repaired.len;
    }
    c.has_new = unicode_has_new(text, len);
    size_t before = out->len;
    err_id id = encode_text(&c, text, len, flags, e);
    if (id != ERR_NONE) out->len = before;
    regex_scratch_destroy(c.regex);
    bpe_scratch_fini(&c.bpe);
    pretokenize_scratch_fini(&c.pieces);
    buf_free(&c.repaired);
    buf_free(&c.normal);
    buf_free(&c.spare);
    return id;
}

// ---- decoding and questions ----

void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_special, struct buf *out) {
    struct detokenizer d;
    detokenizer_init(&d, t, skip_special);
    for (size_t i = 0; i < n; i++) detokenizer_push(&d, ids[i], out);
    detokenizer_finish(&d, out);
    detokenizer_fini(&d);
}

uint32_t tokenizer_vocab_size(const struct tokenizer *t) { return t->n_ids; }

uint32_t tokenizer_id(const struct tokenizer *t, const char *token, size_t len) {
    uint32_t id = vocab_find(&t->added, token, len);
    return id != TOKEN_NONE ? id : vocab_find(&t->names, token, len);
}

uint32_t tokenizer_bos(const struct tokenizer *t) { return t->bos; }
uint32_t tokenizer_eos(const struct tokenizer *t) { return t->eos; }
const char *tokenizer_bos_text(const struct tokenizer *t) { return t->bos_text ? t->bos_text : ""; }
const char *tokenizer_eos_text(const struct tokenizer *t) { return t->eos_text ? t->eos_text : ""; }

bool tokenizer_is_special(const struct tokenizer *t, uint32_t id) { return id < t->n_ids && (t->flags[id] & TOKEN_SPECIAL); }
bool tokenizer_is_added(const struct tokenizer *t, uint32_t id) { return id < t->n_ids && (t->flags[id] & TOKEN_ADDED); }

struct bytes tokenizer_token_bytes(const struct tokenizer *t, uint32_t id) {
    const struct decoder *d = &t->decoder;
    if (id >= d->n_ids) return (struct bytes){NULL, 0};
    return (struct bytes){d->text.data + d->offset[id], d->length[id]};
}

struct bytes tokenizer_token_name(const struct tokenizer *t, uint32_t id) {
    struct bytes name = vocab_string(&t->added, id);
    return name.data != NULL ? name : vocab_string(&t->names, id);
}
