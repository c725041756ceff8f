// shoal-model quantize: a model folder whose matrices are in int8 or int4, so that loading it reads no more than that. The
// same bits as quantising at load. The new folder appears whole or not at all: it is written under another name first.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/sys/flags.h"
#include "worker/gguf/gguf.h"
#include "worker/model/quant.h"
#include "worker/model_cli/commands.h"
#include "worker/model_cli/runner.h"

struct quantize {
    const char *model, *quant_text, *out;
    enum quant quant;
    struct model *opened;
    FILE *file;
    json_t *header;
    uint64_t offset; // of the next tensor's data
    bool failed;     // a write failed, or a value isn't finite: see bad
    char bad[MODEL_NAME_MAX];
};

static enum flags_next parse(int argc, char **argv, struct quantize *o) {
    const struct flag flags[] = {
        {.name = "model",
         .kind = FLAG_STRING,
         .target = &o->model,
         .value = "DIR",
         .help = "Hugging Face model folder, in full precision",
         .required = true},
        {.name = "quant",
         .kind = FLAG_STRING,
         .target = &o->quant_text,
         .value = "FORMAT",
         .help = "int8 (per output channel) or int4 (groups of 64)",
         .required = true},
        {.name = "out", .kind = FLAG_STRING, .target = &o->out, .value = "DIR", .help = "the new folder", .required = true},
    };
    const struct flag_spec spec = {
        .program = "shoal-model quantize",
        .summary = "Writes a model folder whose matrices are quantised: the same as --quant at load, but smaller to read.",
        .examples = "  shoal-model quantize --model deploy/local/model --quant int8 --out /tmp/tiny-int8\n",
        .flags = flags,
        .n_flags = ARRAY_LEN(flags),
    };
    return flags_parse(&spec, argc, argv, NULL);
}

// ---- tensors ----

static bool is_quantised(const struct quantize *q, const struct tensor_need *n) {
    return n->cols > 0 && quant_applies(model_spec(q->opened), n->role);
}

static void describe(void *context, const struct tensor_need *n) {
    struct quantize *q = context;
    const struct tensor *t = model_tensor(q->opened, n->role, n->layer, n->expert);
    if (json_object_get(q->header, t->name) != NULL) return;
    uint64_t row = quant_row_bytes(q->quant, n->cols), bytes = is_quantised(q, n) ? n->rows * row : t->bytes;
    json_t *shape = json_array();
    for (uint32_t d = 0; d < t->n_dims; d++) json_array_append_new(shape, json_integer((json_int_t)t->dims[d]));
    if (is_quantised(q, n)) json_array_set_new(shape, 1, json_integer((json_int_t)row));
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", is_quantised(q, n) ? "U8" : dtype_name(t->dtype), "shape",
                              shape, "data_offsets", (json_int_t)q->offset, (json_int_t)(q->offset + bytes));
    json_object_set_new(q->header, t->name, entry);
    q->offset += bytes;
}

static void write_rows(struct quantize *q, const struct tensor *t, const struct tensor_need *n) {
    uint64_t bytes = quant_row_bytes(q->quant, n->cols);
    float *row = xmalloc(n->cols * sizeof *row);
    uint8_t *packed = xmalloc(bytes);
    for (uint64_t r = 0; r < n->rows && !q->failed; r++) {
        float sum = 0;
        for (uint32_t i = 0; i < n->cols; i++) {
            row[i] = tensor_element(t, r * n->cols + i);
            sum += row[i] * 0;
        }
        if (sum != 0) snprintf(q->bad, sizeof q->bad, "%s", t->name); // NaN, from one that is no finite number
        q->failed = sum != 0;
        if (q->failed) break;
        quant_row(q->quant, row, n->cols, packed);
        q->failed = fwrite(packed, 1, bytes, q->file) != bytes;
    }
    free(row);
    free(packed);
}

static void write_tensor(void *context, const struct tensor_need *n) {
    struct quantize *q = context;
    const struct tensor *t = model_tensor(q->opened, n->role, n->layer, n->expert);
    json_t *offsets = json_object_get(json_object_get(q->header, t->name), "data_offsets");
    if (q->failed || (uint64_t)json_integer_value(json_array_get(offsets, 0)) != q->offset) return; // written already
    if (is_quantised(q, n)) {
        write_rows(q, t, n);
    } else {
        q->failed |= fwrite(t->data, 1, t->bytes, q->file) != t->bytes;
    }
    q->offset = (uint64_t)json_integer_value(json_array_get(offsets, 1));
}

static void write_all(struct quantize *q) {
    const struct model_spec *s = model_spec(q->opened);
    spec_needs(s, 0, s->layers, describe, q);
    char *text = json_dumps(q->header, JSON_COMPACT);
    CHECK(text != NULL);
    uint64_t length = strlen(text);
    q->failed = fwrite(&length, sizeof length, 1, q->file) != 1 || fwrite(text, 1, length, q->file) != length;
    free(text);
    q->offset = 0;
    spec_needs(s, 0, s->layers, write_tensor, q);
}

static err_id write_weights(struct quantize *q, const char *path, struct error *e) {
    q->file = fopen(path, "wbxe");
    if (q->file == NULL) return error_set(e, ERR_SYSTEM, "%.300s can't be created: %m", path);
    q->header = json_object();
    write_all(q);
    json_decref(q->header);
    bool failed = fclose(q->file) != 0 || q->failed;
    if (q->bad[0] != '\0') return error_set(e, ERR_NUMERIC, "%.120s has values that are no finite numbers", q->bad);
    return failed ? error_set(e, ERR_SYSTEM, "%.300s can't be written: %m", path) : ERR_NONE;
}

// ---- the other files ----

static err_id write_config(const struct quantize *q, const char *to, struct error *e) {
    struct buf path = {0};
    json_error_t je;
    buf_printf(&path, "%s/config.json", q->model);
    json_t *config = json_load_file(path.data, 0, &je);
    buf_reset(&path);
    buf_printf(&path, "%s/config.json", to);
    json_t *how = json_pack("{s:s, s:s}", "quant_method", "shoal", "format", quant_name(q->quant));
    bool done = config != NULL && json_object_set_new(config, "quantization_config", how) == 0 &&
                json_dump_file(config, path.data, JSON_INDENT(2)) == 0;
    err_id id = done ? ERR_NONE : error_set(e, ERR_SYSTEM, "%.300s can't be written", path.data);
    json_decref(config);
    buf_free(&path);
    return id;
}

// A file that isn't there is left out.
static err_id copy(const char *from, const char *to, const char *name, struct error *e) {
    struct buf path = {0};
    char block[1 << 16];
    buf_printf(&path, "%s/%s", from, name);
    FILE *in = fopen(path.data, "rbe");
    buf_reset(&path);
    buf_printf(&path, "%s/%s", to, name);
    FILE *out = in == NULL ? NULL : fopen(path.data, "wbxe");
    bool ok = in == NULL || out != NULL;
    for (size_t n; ok && in != NULL && (n = fread(block, 1, sizeof block, in)) > 0;) ok = fwrite(block, 1, n, out) == n;
    if (in != NULL) ok &= !ferror(in), fclose(in);
    if (out != NULL) ok &= fclose(out) == 0;
    err_id id = ok ? ERR_NONE : error_set(e, ERR_SYSTEM, "%.300s can't be written: %m", path.data);
    buf_free(&path);
    return id;
}

static const char *const copied[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                     "generation_config.json"};

static err_id write_folder(struct quantize *q, const char *to, struct error *e) {
    struct buf path = {0};
    buf_printf(&path, "%s/model.safetensors", to);
    err_id id = write_weights(q, path.data, e);
    buf_free(&path);
    if (id == ERR_NONE) id = write_config(q, to, e);
    for (size_t i = 0; i < ARRAY_LEN(copied) && id == ERR_NONE; i++) id = copy(q->model, to, copied[i], e);
    return id;
}

static void remove_folder(const char *folder) {
    static const char *const others[] = {"model.safetensors", "config.json"};
    struct buf path = {0};
    for (size_t i = 0; i < ARRAY_LEN(copied) + ARRAY_LEN(others); i++) {
        buf_reset(&path);
        buf_printf(&path, "%s/%s", folder, i < ARRAY_LEN(copied) ? copied[i] : others[i - ARRAY_LEN(copied)]);
        unlink(path.data);
    }
    buf_free(&path);
    rmdir(folder);
}

static err_id run(struct quantize *q, struct error *e) {
    TRY(quant_parse(q->quant_text, &q->quant, e));
    if (q->quant == QUANT_NONE) return error_set(e, ERR_INVALID_ARGUMENT, "--quant takes int8 or int4");
    if (gguf_is_file(q->model))
        return error_set(e, ERR_INVALID_ARGUMENT, "--model must be a model folder: a GGUF file is used as it is");
    if (access(q->out, F_OK) == 0) return error_set(e, ERR_INVALID_ARGUMENT, "%.300s is there already", q->out);
    TRY(model_open(q->model, &q->opened, e));
    TRY(quant_check(q->opened, q->quant, e));
    if (model_spec(q->opened)->fp8_block[0] > 0)
        return error_set(e, ERR_UNSUPPORTED, "an FP8 checkpoint can only be quantised at load: give --quant where it is served");
    struct buf half = {0};
    buf_printf(&half, "%s.half", q->out);
    err_id id = mkdir(half.data, 0777) == 0 ? ERR_NONE : error_set(e, ERR_SYSTEM, "%.300s can't be created: %m", half.data);
    if (id == ERR_NONE) {
        id = write_folder(q, half.data, e);
        if (id == ERR_NONE && rename(half.data, q->out) != 0)
            id = error_set(e, ERR_SYSTEM, "%.300s can't be renamed: %m", half.data);
        if (id != ERR_NONE) remove_folder(half.data);
    }
    buf_free(&half);
    return id;
}

int shoal_model_quantize(int argc, char **argv) {
    struct quantize q = {0};
    enum flags_next next = parse(argc, argv, &q);
    if (next != FLAGS_RUN) return next == FLAGS_EXIT ? 0 : 2;
    struct error e = {0};
    err_id id = run(&q, &e);
    model_close(&q.opened);
    return id == ERR_NONE ? 0 : runner_fail("quantize", &e);
}
