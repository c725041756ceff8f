// Token records as columns, both ways.
#include "proto/codec_internal.h"

#include "common/base/check.h"

#include <string.h>

// Which columns are needed, and how long the joined ones are.
struct extent {
    size_t text, tops;
    uint32_t logprobs;
    bool channels, texts, top_texts;
};

static struct extent measure(const struct records *records) {
    struct extent x = {0};
    for (uint32_t i = 0; i < records->count; i++) {
        struct record r = records_get(records, i);
        x.text += r.text_len;
        x.tops += r.n_top;
        x.logprobs += r.has_logprob;
        x.channels |= r.channel != 0;
        x.texts |= r.text_len != 0;
        for (uint32_t k = 0; k < r.n_top; k++) x.top_texts |= r.top[k].text_len > 0;
    }
    return x;
}

static uint32_t *column(struct codec_arena *a, bool needed, uint32_t n, size_t *count) {
    if (!needed) return NULL;
    *count = n;
    return enc_alloc(a, n * sizeof(uint32_t));
}

static void allocate_columns(struct codec_arena *a, const struct extent *x, uint32_t n, Shoal__Records *out) {
    out->token = column(a, true, n, &out->n_token);
    out->text_bytes = column(a, x->texts, n, &out->n_text_bytes);
    out->channel = column(a, x->channels, n, &out->n_channel);
    out->top_count = column(a, x->tops > 0, n, &out->n_top_count);
    out->logprob = (float *)column(a, x->logprobs > 0, n, &out->n_logprob);
    out->top_token = column(a, x->tops > 0, (uint32_t)x->tops, &out->n_top_token);
    out->top_logprob = (float *)column(a, x->tops > 0, (uint32_t)x->tops, &out->n_top_logprob);
    if (x->top_texts) {
        out->n_top_text = x->tops;
        out->top_text = enc_alloc(a, x->tops * sizeof *out->top_text);
    }
    if (x->logprobs > 0 && x->logprobs < n) {
        out->n_has_logprob = n;
        out->has_logprob = enc_alloc(a, n * sizeof *out->has_logprob);
    }
    out->text = (ProtobufCBinaryData){.len = x->text, .data = x->text > 0 ? enc_alloc(a, x->text) : NULL};
}

// The texts are copied: a record of an array may live on the caller's stack.
static void enc_tops(struct codec_arena *a, const struct record *r, size_t at, Shoal__Records *out) {
    for (uint32_t k = 0; k < r->n_top; k++) {
        const struct top_logprob *top = &r->top[k];
        out->top_token[at + k] = top->token;
        out->top_logprob[at + k] = top->logprob;
        if (out->top_text == NULL) continue;
        uint8_t *text = top->text_len > 0 ? enc_alloc(a, top->text_len) : NULL;
        if (text) memcpy(text, top->text, top->text_len);
        out->top_text[at + k] = (ProtobufCBinaryData){.len = top->text_len, .data = text};
    }
}

Shoal__Records *enc_records(struct codec_arena *a, const struct records *records) {
    if (records->count == 0) return NULL;
    struct extent x = measure(records);
    Shoal__Records *out = enc_alloc(a, sizeof *out);
    shoal__records__init(out);
    allocate_columns(a, &x, records->count, out);
    size_t text = 0, top = 0;
    for (uint32_t i = 0; i < records->count; i++) {
        struct record r = records_get(records, i);
        out->token[i] = r.token;
        if (out->text_bytes) out->text_bytes[i] = r.text_len;
        if (out->channel) out->channel[i] = r.channel;
        if (out->logprob) out->logprob[i] = r.has_logprob ? r.logprob : 0;
        if (out->has_logprob) out->has_logprob[i] = r.has_logprob;
        if (out->top_count) out->top_count[i] = r.n_top;
        if (r.text_len > 0) memcpy(out->text.data + text, r.text, r.text_len);
        enc_tops(a, &r, top, out);
        text += r.text_len;
        top += r.n_top;
    }
    return out;
}

// ---- decoding

static err_id column_fits(size_t n, size_t want, const char *field, struct error *e) {
    if (n == 0 || n == want) return ERR_NONE;
    return error_set(e, ERR_PROTOCOL, "records.%s has %zu entries for %zu tokens", field, n, want);
}

static err_id check_columns(const Shoal__Records *from, uint32_t max, struct error *e) {
    size_t n = from->n_token;
    if (n > max) return error_set(e, ERR_PROTOCOL, "records has %zu tokens; at most %u are allowed", n, max);
    TRY(column_fits(from->n_text_bytes, n, "text_bytes", e));
    TRY(column_fits(from->n_channel, n, "channel", e));
    TRY(column_fits(from->n_logprob, n, "logprob", e));
    TRY(column_fits(from->n_top_count, n, "top_count", e));
    TRY(column_fits(from->n_has_logprob, n, "has_logprob", e));
    if (from->n_top_token != from->n_top_logprob)
        return error_set(e, ERR_PROTOCOL, "records.top_token has %zu entries and records.top_logprob %zu", from->n_top_token,
                         from->n_top_logprob);
    TRY(column_fits(from->n_top_text, from->n_top_token, "top_text", e));
    if (from->n_has_logprob > 0 && from->n_logprob == 0)
        return error_set(e, ERR_PROTOCOL, "records.has_logprob is there and records.logprob is not");
    if (utf8_prefix(from->text.data, from->text.len) != from->text.len)
        return error_set(e, ERR_PROTOCOL, "records.text is not valid UTF-8");
    return ERR_NONE;
}

// One pass over the columns; text_used and tops_used say how much of the joined ones is spoken for.
struct cursor {
    size_t text_used, tops_used;
};

static err_id read_record(const Shoal__Records *from, size_t i, const struct top_logprob *tops, struct cursor *at,
                          struct record *out, struct error *e) {
    uint32_t text_len = from->n_text_bytes ? from->text_bytes[i] : 0;
    uint32_t channel = from->n_channel ? from->channel[i] : 0;
    uint32_t n_top = from->n_top_count ? from->top_count[i] : 0;
    if (text_len > RECORD_TEXT_MAX || text_len > from->text.len - at->text_used)
        return error_set(e, ERR_PROTOCOL, "records.text_bytes says %u bytes where %zu are left", text_len,
                         from->text.len - at->text_used);
    if (channel > CHANNEL_TOOL) return error_set(e, ERR_PROTOCOL, "records.channel is %u, which is not known", channel);
    if (n_top > TOP_LOGPROBS_MAX || n_top > from->n_top_token - at->tops_used)
        return error_set(e, ERR_PROTOCOL, "records.top_count says %u entries where %zu are left", n_top,
                         from->n_top_token - at->tops_used);
    float logprob = from->n_logprob ? from->logprob[i] : 0;
    if (logprob != logprob) return error_set(e, ERR_PROTOCOL, "records.logprob is not a number");
    bool has_logprob = from->n_logprob > 0 && (from->n_has_logprob == 0 || from->has_logprob[i]);
    const char *text = text_len ? (const char *)from->text.data + at->text_used : "";
    if (((uint8_t)text[0] & 0xc0) == 0x80) return error_set(e, ERR_PROTOCOL, "records.text_bytes cuts a UTF-8 sequence");
    *out = (struct record){
        .token = from->token[i],
        .channel = (uint8_t)channel,
        .has_logprob = has_logprob,
        .logprob = has_logprob ? logprob : 0,
        .text_len = text_len,
        .text = text,
        .n_top = n_top,
        .top = n_top ? tops + at->tops_used : NULL,
    };
    at->text_used += text_len;
    at->tops_used += n_top;
    return ERR_NONE;
}

static err_id read_tops(const Shoal__Records *from, struct codec_arena *a, struct top_logprob **out, struct error *e) {
    *out = NULL;
    if (from->n_top_token == 0) return ERR_NONE;
    struct top_logprob *tops = codec_arena_alloc(a, from->n_top_token * sizeof *tops);
    if (tops == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < from->n_top_token; i++) {
        tops[i] = (struct top_logprob){.token = from->top_token[i], .logprob = from->top_logprob[i]};
        if (tops[i].logprob != tops[i].logprob) return error_set(e, ERR_PROTOCOL, "records.top_logprob is not a number");
        const ProtobufCBinaryData *text = from->n_top_text ? &from->top_text[i] : NULL;
        if (text == NULL || text->len == 0) continue;
        if (text->len > TOP_TEXT_MAX)
            return error_set(e, ERR_PROTOCOL, "records.top_text has %zu bytes; at most %d are allowed", text->len,
                             TOP_TEXT_MAX);
        tops[i].text_len = (uint8_t)text->len;
        memcpy(tops[i].text, text->data, text->len);
    }
    *out = tops;
    return ERR_NONE;
}

err_id dec_records(const Shoal__Records *from, struct codec_arena *a, uint32_t max, struct records *out, struct error *e) {
    *out = (struct records){0};
    if (from == NULL) return ERR_NONE;
    TRY(check_columns(from, max, e));
    struct top_logprob *tops;
    TRY(read_tops(from, a, &tops, e));
    struct record *array = codec_arena_alloc(a, from->n_token * sizeof *array);
    if (array == NULL) return dec_no_memory(e);
    struct cursor at = {0};
    for (size_t i = 0; i < from->n_token; i++) TRY(read_record(from, i, tops, &at, &array[i], e));
    if (at.text_used != from->text.len || at.tops_used != from->n_top_token)
        return error_set(e, ERR_PROTOCOL, "records has %zu bytes of text and %zu top logprobs that belong to no token",
                         from->text.len - at.text_used, from->n_top_token - at.tops_used);
    *out = (struct records){.array = array, .count = (uint32_t)from->n_token};
    return ERR_NONE;
}
