// Opening a model folder, and telling everything that is wrong with it at once.
#include "worker/model/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "common/base/check.h"
#include "worker/gguf/documents.h"
#include "worker/model/config.h"
#include "worker/model/quant.h"

enum { LISTED_MAX = 3, LIST_BYTES = 200, NOTE_BYTES = 400 };

struct model {
    char *folder;
    struct model_spec spec;
    struct model_generation generation;
    struct tensor_set *tensors;
    uint64_t config_hash; // of config.json, whatever its order and spacing
    char fingerprint[33];
    char note[NOTE_BYTES];
};

// ---- lists in sentences: the first few, then how many more ----

struct list {
    char text[LIST_BYTES];
    size_t used;
    uint32_t count;
};

static void list_add(struct list *l, const char *item) {
    if (l->count++ >= LISTED_MAX || l->used >= sizeof l->text) return;
    l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%s%.60s", l->count > 1 ? ", " : "", item);
}

static const char *list_end(struct list *l) {
    if (l->count > LISTED_MAX && l->used < sizeof l->text) {
        snprintf(l->text + l->used, sizeof l->text - l->used, " and %u more", l->count - LISTED_MAX);
    }
    return l->text;
}

// ---- tensors against the spec ----

struct audit {
    const struct tensor_set *set;
    const struct model_spec *spec;
    struct list missing, misshapen, unreadable;
    uint64_t used;
};

// One scale per block, those at the edges for what is left.
static void audit_scale(struct audit *a, const struct tensor_need *n, const struct tensor *t) {
    char item[MODEL_NAME_MAX + 96];
    const struct tensor *s = t->scale;
    if (s == NULL) {
        snprintf(item, sizeof item, "%s_scale_inv", t->name);
        list_add(&a->missing, item);
        return;
    }
    a->used++;
    uint64_t rows = (n->rows + t->block[0] - 1) / t->block[0], cols = (n->cols + t->block[1] - 1) / t->block[1];
    if (s->n_dims != 2 || s->dims[0] != rows || s->dims[1] != cols) {
        snprintf(item, sizeof item, "%s not [%llu,%llu]", s->name, (unsigned long long)rows, (unsigned long long)cols);
        list_add(&a->misshapen, item);
    }
    if (s->dtype != DTYPE_F32 && s->dtype != DTYPE_BF16) {
        snprintf(item, sizeof item, "%s is %s", s->name, dtype_name(s->dtype));
        list_add(&a->unreadable, item);
    }
}

static void audit_need(void *context, const struct tensor_need *n) {
    struct audit *a = context;
    char name[MODEL_NAME_MAX], item[MODEL_NAME_MAX + 96];
    spec_tensor_name(a->spec, n->role, n->layer, n->expert, name);
    const struct tensor *t = tensor_set_find(a->set, name);
    if (t == NULL) {
        list_add(&a->missing, name);
        return;
    }
    a->used++;
    bool ours = a->spec->quant != QUANT_NONE && quant_applies(a->spec, n->role);
    uint64_t columns = ours ? quant_row_bytes(a->spec->quant, n->cols) : n->cols;
    bool fits = n->cols == 0 ? t->n_dims == 1 && t->dims[0] == n->rows
                             : t->n_dims == 2 && t->dims[0] == n->rows && t->dims[1] == columns;
    if (!fits) {
        const char *tail = strlen(name) > 28 ? name + strlen(name) - 28 : name;
        snprintf(item, sizeof item, "%s [%llu,%llu] not [%u,%u]", tail, (unsigned long long)t->dims[0],
                 (unsigned long long)(t->n_dims > 1 ? t->dims[1] : 0), n->rows, (uint32_t)columns);
        list_add(&a->misshapen, item);
    }
    bool fp8 = t->dtype == DTYPE_F8_E4M3 && n->cols > 0 && n->role != TENSOR_EMBED && a->spec->fp8_block[0] > 0;
    bool plain = t->dtype == DTYPE_BF16 || t->dtype == DTYPE_F16 || t->dtype == DTYPE_F32;
    // Vectors, the router and what is cut up per head can't be quantised.
    bool quantised = t->dtype >= DTYPE_SAFETENSORS && n->cols > 0 && n->role != TENSOR_KV_B && n->role != TENSOR_ROUTER;
    if (ours) plain = false, quantised = t->dtype == DTYPE_INT8 || t->dtype == DTYPE_INT4;
    if (fp8) {
        audit_scale(a, n, t);
    } else if (!plain && !quantised) {
        snprintf(item, sizeof item, "%s is %s", name, dtype_name(t->dtype));
        list_add(&a->unreadable, item);
    }
}

static err_id audit_report(struct audit *a, struct error *e) {
    char text[ERROR_TEXT_MAX] = "";
    size_t n = 0;
    struct {
        struct list *list;
        const char *what;
    } parts[] = {
        {&a->missing, "missing"}, {&a->misshapen, "of the wrong shape"}, {&a->unreadable, "of an unsupported type"}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i].list->count == 0 || n >= sizeof text) continue;
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%u tensors are %s (%s)", n > 0 ? "; " : "", parts[i].list->count,
                              parts[i].what, list_end(parts[i].list));
    }
    if (n == 0) return ERR_NONE;
    return error_set(e, ERR_MODEL_FILES, "%s: %s", tensor_set_source(a->set), text);
}

// Known leftovers: layers past the last (multi-token prediction), rope tables, a head beside tied embeddings.
static bool is_known_extra(const struct model_spec *s, const char *name) {
    unsigned layer;
    if (sscanf(name, "model.layers.%u.", &layer) == 1 && layer >= s->layers) return true;
    if (strstr(name, "rotary_emb.inv_freq") != NULL) return true;
    return s->tied && strcmp(name, "lm_head.weight") == 0;
}

struct extras {
    const char **needed;
    uint64_t count, capacity;
    const struct tensor_set *set;
    const struct model_spec *spec;
};

static void collect(void *context, const struct tensor_need *n) {
    struct extras *x = context;
    char name[MODEL_NAME_MAX];
    spec_tensor_name(x->spec, n->role, n->layer, n->expert, name);
    const struct tensor *t = tensor_set_find(x->set, name);
    if (x->count < x->capacity) x->needed[x->count++] = t->name;
    if (x->count < x->capacity && t->scale != NULL) x->needed[x->count++] = t->scale->name;
}

static int by_address(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    return x < y ? -1 : x > y;
}

static void note_extras(struct model *m, uint64_t used) {
    uint64_t total;
    const struct tensor *all = tensor_set_all(m->tensors, &total);
    struct extras x = {xmalloc((used + 1) * sizeof(char *)), 0, used, m->tensors, &m->spec};
    spec_needs(&m->spec, 0, m->spec.layers, collect, &x);
    qsort(x.needed, x.count, sizeof *x.needed, by_address);
    struct list extra = {0};
    for (uint64_t i = 0; i < total; i++) {
        const char *name = all[i].name;
        bool needed = bsearch(&name, x.needed, x.count, sizeof *x.needed, by_address) != NULL;
        if (!needed && !is_known_extra(&m->spec, name)) list_add(&extra, name);
    }
    free(x.needed);
    if (extra.count == 0) return;
    snprintf(m->note, sizeof m->note, "%s has %u tensors that the model does not use (%s)", tensor_set_source(m->tensors),
             extra.count, list_end(&extra));
}

static void add_weights_to_fingerprint(struct model *m) {
    char both[33 + 33];
    tensor_set_fingerprint(m->tensors, both);
    snprintf(both + 32, 33, "%016llx", (unsigned long long)m->config_hash);
    XXH128_hash_t h = XXH3_128bits(both, strlen(both));
    snprintf(m->fingerprint, sizeof m->fingerprint, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
}

static err_id open_tensors(struct model *m, const char *folder, struct error *e) {
    TRY(tensor_set_open(folder, &m->tensors, e));
    if (m->spec.fp8_block[0] > 0) tensor_set_scale(m->tensors, m->spec.fp8_block);
    if (m->spec.quant != QUANT_NONE) tensor_set_quantised(m->tensors, m->spec.quant == QUANT_INT8 ? DTYPE_INT8 : DTYPE_INT4);
    struct audit a = {.set = m->tensors, .spec = &m->spec};
    spec_needs(&m->spec, 0, m->spec.layers, audit_need, &a);
    TRY(audit_report(&a, e));
    note_extras(m, a.used);
    add_weights_to_fingerprint(m);
    return tensor_set_check(m->tensors, e);
}

// ---- JSON files ----

static err_id load_document(const char *file, const char *name, json_t **json, struct error *e) {
    struct buf text = {0};
    bool found;
    json_error_t je;
    err_id id = gguf_document(file, name, &text, &found, e);
    if (id == ERR_NONE && found) {
        *json = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
        if (*json == NULL) id = error_set(e, ERR_MODEL_FILES, "%.300s: %.150s", file, je.text);
    }
    buf_free(&text);
    return id;
}

static err_id load_json(const char *folder, const char *name, bool needed, json_t **json, struct error *e) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *json = NULL;
    if (gguf_is_file(folder)) return load_document(folder, name, json, e);
    if (access(path, F_OK) != 0) {
        return needed ? error_set(e, ERR_MODEL_FILES, "%.400s is missing", path) : ERR_NONE;
    }
    json_error_t je;
    *json = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    if (*json == NULL) return error_set(e, ERR_MODEL_FILES, "%.300s: line %d: %.150s", path, je.line, je.text);
    return ERR_NONE;
}

static err_id read_generation(struct model *m, const json_t *g, struct error *e) {
    double temperature = 1, top_p = 1, repetition = 1;
    TRY(config_eos(g, &m->spec, e));
    TRY(config_bool(g, "do_sample", &m->generation.do_sample, e));
    TRY(config_number(g, "temperature", &temperature, e));
    TRY(config_number(g, "top_p", &top_p, e));
    TRY(config_number(g, "repetition_penalty", &repetition, e));
    TRY(config_u32(g, "top_k", (struct config_range){0, 0, 1 << 22}, &m->generation.top_k, e));
    m->generation.temperature = (float)temperature;
    m->generation.top_p = (float)top_p;
    m->generation.repetition_penalty = (float)repetition;
    return ERR_NONE;
}

static err_id open_configs(struct model *m, const char *folder, struct error *e) {
    json_t *config, *generation;
    TRY(load_json(folder, "config.json", true, &config, e));
    err_id id = config_map(config, &m->spec, e);
    char *canonical = json_dumps(config, JSON_SORT_KEYS | JSON_COMPACT);
    m->config_hash = canonical == NULL ? 0 : XXH3_64bits(canonical, strlen(canonical));
    free(canonical);
    json_decref(config);
    if (id != ERR_NONE) return id;
    TRY(load_json(folder, "generation_config.json", false, &generation, e));
    if (generation == NULL) return ERR_NONE;
    id = read_generation(m, generation, e);
    json_decref(generation);
    return id == ERR_NONE ? id : error_wrap(e, "generation_config.json");
}

static err_id open_model(const char *folder, bool tensors, struct model **model, struct error *e) {
    struct model *m = xcalloc(1, sizeof *m);
    m->folder = realpath(folder, NULL);
    if (m->folder == NULL) m->folder = xstrdup(folder);
    m->generation = (struct model_generation){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    err_id id = open_configs(m, folder, e);
    if (id == ERR_NONE && tensors) id = open_tensors(m, folder, e);
    if (id != ERR_NONE) {
        model_close(&m);
        return id;
    }
    *model = m;
    return ERR_NONE;
}

err_id model_open(const char *folder, struct model **model, struct error *e) { return open_model(folder, true, model, e); }
err_id model_open_config(const char *folder, struct model **model, struct error *e) {
    return open_model(folder, false, model, e);
}

void model_close(struct model **model) {
    if (*model == NULL) return;
    tensor_set_close(&(*model)->tensors);
    free((*model)->folder);
    free(*model);
    *model = NULL;
}

err_id model_check(const struct model *m, struct error *e) {
    return m->tensors == NULL ? ERR_NONE : tensor_set_check(m->tensors, e);
}

const char *model_folder(const struct model *m) { return m->folder; }
const struct model_spec *model_spec(const struct model *m) { return &m->spec; }
const struct model_generation *model_generation(const struct model *m) { return &m->generation; }
const char *model_note(const struct model *m) { return m->note[0] != '\0' ? m->note : NULL; }
const char *model_fingerprint(const struct model *m) { return m->fingerprint; }

struct part_sum {
    const struct model *model;
    struct model_part part;
};

static void add_need(void *context, const struct tensor_need *n) {
    struct part_sum *s = context;
    const struct tensor *t = model_tensor(s->model, n->role, n->layer, n->expert);
    s->part.tensors++;
    s->part.bytes += t == NULL ? 0 : t->bytes;
}

struct model_part model_part(const struct model *m, uint32_t first, uint32_t end) {
    struct part_sum s = {.model = m};
    spec_needs(&m->spec, first, end, add_need, &s);
    return s.part;
}

const struct tensor *model_tensor(const struct model *m, enum tensor_role role, uint32_t layer, uint32_t expert) {
    char name[MODEL_NAME_MAX];
    if (m->tensors == NULL) return NULL;
    spec_tensor_name(&m->spec, role, layer, expert, name);
    return tensor_set_find(m->tensors, name);
}
