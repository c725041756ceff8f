// Design notes. The same walk over the layers first adds up sizes (memory NULL) and then places and packs, so the plan and
// the load can't disagree. A source element is reached by strides, which makes a transposed or sliced matrix an ordinary
// one.
#include "worker/engine/cpu/weights.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "common/base/check.h"

enum { ALIGN = 64, HUGE_PAGE = 2 << 20, PACK_GRAIN = 4, PROGRESS_BYTES = 16 << 20 };

struct walk {
    const struct weights_load *load;
    struct weights *w; // memory NULL: only count
    uint64_t used, total, reported;
    uint32_t layer;
    bool cancelled;
    atomic_bool not_numbers; // in an FP8 matrix
};

static void *take(struct walk *k, uint64_t bytes) {
    uint8_t *p = k->w->memory == NULL ? NULL : k->w->memory + k->used;
    k->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static void report(struct walk *k) {
    const struct weights_load *l = k->load;
    if (k->w->memory == NULL || l->progress == NULL || k->cancelled) return;
    if (k->used - k->reported < PROGRESS_BYTES && k->used < k->total) return;
    k->reported = k->used;
    k->cancelled = !l->progress(l->context, (struct engine_load_progress){k->used, k->total});
}

// ---- packing ----

struct source {
    const struct tensor *tensor; // NULL when only counting without tensors
    uint64_t base, row_stride, col_stride;
};

struct pack_job {
    const struct matrix *m;
    struct source s;
    enum quant quant; // to be quantised here
    atomic_bool *not_numbers;
};

static void pack_bf16(const struct pack_job *j, uint32_t panel) {
    uint8_t *out = (uint8_t *)j->m->panels + (size_t)panel * j->m->k * PANEL_ROWS * 2;
    for (uint32_t lane = 0; lane < PANEL_ROWS; lane++) {
        uint32_t row = panel * PANEL_ROWS + lane;
        if (row >= j->m->n) continue; // fresh memory is zero
        const uint8_t *in = j->s.tensor->data + 2 * (j->s.base + row * j->s.row_stride);
        for (uint32_t pair = 0; pair < j->m->k / 2; pair++) {
            uint8_t *to = out + ((size_t)pair * PANEL_ROWS + lane) * 4;
            if (j->s.col_stride == 1) {
                memcpy(to, in + 4 * (size_t)pair, 4);
            } else {
                memcpy(to, in + 4 * pair * j->s.col_stride, 2);
                memcpy(to + 2, in + (4 * (uint64_t)pair + 2) * j->s.col_stride, 2);
            }
        }
    }
}

static void pack_f16(const struct pack_job *j, uint32_t panel) {
    uint8_t *out = (uint8_t *)j->m->panels + (size_t)panel * j->m->k * PANEL_ROWS * 2;
    for (uint32_t lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < j->m->n; lane++) {
        const uint8_t *in = j->s.tensor->data + 2 * (j->s.base + (panel * PANEL_ROWS + lane) * j->s.row_stride);
        for (uint32_t k = 0; k < j->m->k; k++)
            memcpy(out + 2 * ((size_t)k * PANEL_ROWS + lane), in + 2 * k * j->s.col_stride, 2);
    }
}

// A row of blocks as its file has it.
static void pack_row(const struct matrix *m, const uint8_t *in, uint32_t lane, uint8_t *panel) {
    const struct form *f = &forms[m->form];
    if (f->pack_head != NULL) f->pack_head(in, m->k, lane, panel);
    in += f->file_head;
    panel += f->panel_head;
    for (uint32_t at = 0; at < m->k; at += f->block, in += f->file_bytes, panel += f->panel_bytes) f->pack(in, lane, panel);
}

static void pack_quantised(const struct pack_job *j, uint32_t panel) {
    const struct form *f = &forms[j->m->form];
    uint32_t k = j->m->k;
    uint64_t row_bytes = f->file_head + (uint64_t)(k + f->block - 1) / f->block * f->file_bytes;
    uint8_t *out = (uint8_t *)j->m->panels + panel * form_panel_bytes(j->m->form, k);
    float *row = j->quant == QUANT_NONE ? NULL : xmalloc(k * sizeof *row);
    uint8_t *spare = xcalloc(1, row_bytes + f->block); // rows may end within a block
    for (uint32_t lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < j->m->n; lane++) {
        uint64_t r = (uint64_t)panel * PANEL_ROWS + lane;
        if (row == NULL) {
            memcpy(spare, j->s.tensor->data + r * j->s.tensor->bytes / j->m->n, j->s.tensor->bytes / j->m->n);
        } else {
            for (uint32_t i = 0; i < k; i++) row[i] = tensor_element(j->s.tensor, r * k + i);
            quant_row(j->quant, row, k, spare);
        }
        pack_row(j->m, spare, lane, out);
    }
    free(row);
    free(spare);
}

static void pack_f8(const struct pack_job *j, uint32_t panel) {
    const struct tensor *t = j->s.tensor;
    const struct form *f = &forms[FORM_F8];
    uint32_t k = j->m->k;
    uint8_t *out = (uint8_t *)j->m->panels + panel * form_panel_bytes(FORM_F8, k);
    for (uint32_t lane = 0; lane < PANEL_ROWS && panel * PANEL_ROWS + lane < j->m->n; lane++) {
        uint64_t row = (uint64_t)panel * PANEL_ROWS + lane, scales = row / t->block[0] * t->scale->dims[1];
        const uint8_t *in = t->data + row * k;
        for (uint32_t i = 0; i < k; i++) {
            uint8_t *block = out + (size_t)(i / f->block) * f->panel_bytes;
            if (i % f->block == 0) {
                float scale = tensor_element(t->scale, scales + i / t->block[1]);
                memcpy(block + 4 * lane, &scale, sizeof scale);
            }
            if ((in[i] & 127) == 127) atomic_store(j->not_numbers, true);
            block[64 + (size_t)(i % f->block) * PANEL_ROWS + lane] = in[i];
        }
    }
}

static void pack_f32(const struct pack_job *j, uint32_t panel) {
    float *out = (float *)j->m->panels + (size_t)panel * j->m->k * PANEL_ROWS;
    for (uint32_t k = 0; k < j->m->k; k++) {
        for (uint32_t lane = 0; lane < PANEL_ROWS; lane++) {
            uint32_t row = panel * PANEL_ROWS + lane;
            uint64_t at = j->s.base + row * j->s.row_stride + k * j->s.col_stride;
            out[(size_t)k * PANEL_ROWS + lane] = row < j->m->n ? tensor_element(j->s.tensor, at) : 0;
        }
    }
}

static void pack_panels(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pack_job *j = context;
    enum weight_form f = j->m->form;
    void (*pack)(const struct pack_job *, uint32_t) = f == FORM_BF16  ? pack_bf16
                                                      : f == FORM_F16 ? pack_f16
                                                      : f == FORM_F32 ? pack_f32
                                                      : f == FORM_F8  ? pack_f8
                                                                      : pack_quantised;
    for (uint32_t p = begin; p < end; p++) pack(j, p);
}

static const enum dtype quant_dtypes[] = {[QUANT_INT8] = DTYPE_INT8, [QUANT_INT4] = DTYPE_INT4};

// Blocks of FP8 that a panel's blocks don't cross, in a matrix as the file has it.
static bool keeps_f8(const struct source *s) {
    const struct tensor *t = s->tensor;
    return t != NULL && t->dtype == DTYPE_F8_E4M3 && t->scale != NULL && s->base == 0 && s->col_stride == 1 &&
           t->block[1] % forms[FORM_F8].block == 0;
}

static void place_matrix(struct walk *k, struct matrix *m, uint32_t n, uint32_t inputs, struct source s, bool force_f32,
                         enum quant quant) {
    enum dtype dtype = quant != QUANT_NONE ? quant_dtypes[quant] : s.tensor == NULL ? DTYPE_BF16 : s.tensor->dtype;
    enum weight_form form = force_f32 ? FORM_F32 : quant == QUANT_NONE && keeps_f8(&s) ? FORM_F8 : form_of(dtype);
    uint32_t panels = (n + PANEL_ROWS - 1) / PANEL_ROWS;
    *m = (struct matrix){form, n, inputs, NULL};
    m->panels = take(k, panels * form_panel_bytes(form, inputs));
    if (m->panels == NULL || k->cancelled) return;
    struct pack_job job = {m, s, quant, &k->not_numbers};
    pool_for(k->load->pool, panels, PACK_GRAIN, pack_panels, &job);
    report(k);
}

static const struct tensor *tensor_of(const struct walk *k, enum tensor_role role, uint32_t expert) {
    return k->load->model == NULL ? NULL : model_tensor(k->load->model, role, k->layer, expert);
}

static void place(struct walk *k, struct matrix *m, enum tensor_role role, uint32_t expert, uint32_t n, uint32_t inputs) {
    enum quant quant = quant_applies(k->load->spec, role) ? k->load->quant : QUANT_NONE;
    struct source s = {tensor_of(k, role, expert), 0, inputs, 1};
    place_matrix(k, m, n, inputs, s, role == TENSOR_ROUTER, quant);
}

static float *place_vector(struct walk *k, enum tensor_role role, uint32_t n) {
    float *p = take(k, n * sizeof(float));
    const struct tensor *t = tensor_of(k, role, 0);
    for (uint32_t i = 0; p != NULL && i < n; i++) p[i] = tensor_element(t, i);
    return p;
}

// ---- the walk ----

static void walk_gqa(struct walk *k, struct layer_weights *l, const struct attention_spec *a, uint32_t hidden) {
    uint32_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    place(k, &l->q, TENSOR_Q, 0, q, hidden);
    place(k, &l->k, TENSOR_K, 0, kv, hidden);
    place(k, &l->v, TENSOR_V, 0, kv, hidden);
    place(k, &l->out, TENSOR_OUT, 0, hidden, q);
    if (a->qkv_bias) {
        l->q_bias = place_vector(k, TENSOR_Q_BIAS, q);
        l->k_bias = place_vector(k, TENSOR_K_BIAS, kv);
        l->v_bias = place_vector(k, TENSOR_V_BIAS, kv);
    }
    if (a->out_bias) l->out_bias = place_vector(k, TENSOR_OUT_BIAS, hidden);
    if (a->qk_norm) {
        l->q_norm = place_vector(k, TENSOR_Q_NORM, a->head_dim);
        l->k_norm = place_vector(k, TENSOR_K_NORM, a->head_dim);
    }
}

static void walk_mla(struct walk *k, struct layer_weights *l, const struct attention_spec *a, uint32_t hidden) {
    uint32_t q = a->heads * (a->nope_dim + a->rope_dim);
    if (a->q_lora == 0) {
        place(k, &l->q, TENSOR_Q, 0, q, hidden);
    } else {
        place(k, &l->q_a, TENSOR_Q_A, 0, a->q_lora, hidden);
        l->q_a_norm = place_vector(k, TENSOR_Q_A_NORM, a->q_lora);
        place(k, &l->q_b, TENSOR_Q_B, 0, q, a->q_lora);
    }
    place(k, &l->kv_a, TENSOR_KV_A, 0, a->kv_lora + a->rope_dim, hidden);
    l->kv_a_norm = place_vector(k, TENSOR_KV_A_NORM, a->kv_lora);
    const struct tensor *kv_b = tensor_of(k, TENSOR_KV_B, 0);
    struct matrix unused;
    for (uint32_t h = 0; h < a->heads; h++) {
        uint64_t base = (uint64_t)h * (a->nope_dim + a->v_dim) * a->kv_lora;
        struct source uk = {kv_b, base, 1, a->kv_lora},
                      uv = {kv_b, base + (uint64_t)a->nope_dim * a->kv_lora, a->kv_lora, 1};
        place_matrix(k, l->uk == NULL ? &unused : &l->uk[h], a->kv_lora, a->nope_dim, uk, false, QUANT_NONE);
        place_matrix(k, l->uv == NULL ? &unused : &l->uv[h], a->v_dim, a->kv_lora, uv, false, QUANT_NONE);
    }
    place(k, &l->out, TENSOR_OUT, 0, hidden, a->heads * a->v_dim);
}

static void walk_mlp(struct walk *k, struct mlp_weights *w, const struct mlp_spec *m, uint32_t hidden) {
    place(k, &w->gate, TENSOR_GATE, 0, m->inter, hidden);
    place(k, &w->up, TENSOR_UP, 0, m->inter, hidden);
    place(k, &w->down, TENSOR_DOWN, 0, hidden, m->inter);
    if (!m->bias) return;
    w->gate_bias = place_vector(k, TENSOR_GATE_BIAS, m->inter);
    w->up_bias = place_vector(k, TENSOR_UP_BIAS, m->inter);
    w->down_bias = place_vector(k, TENSOR_DOWN_BIAS, hidden);
}

static void walk_moe(struct walk *k, struct layer_weights *l, const struct mlp_spec *m, uint32_t hidden) {
    place(k, &l->router, TENSOR_ROUTER, 0, m->experts, hidden);
    if (m->choice_bias) l->router_bias = place_vector(k, TENSOR_ROUTER_BIAS, m->experts);
    struct mlp_weights unused;
    for (uint32_t x = 0; x < m->experts; x++) {
        struct mlp_weights *w = l->experts == NULL ? &unused : &l->experts[x];
        place(k, &w->gate, TENSOR_EXPERT_GATE, x, m->expert_inter, hidden);
        place(k, &w->up, TENSOR_EXPERT_UP, x, m->expert_inter, hidden);
        place(k, &w->down, TENSOR_EXPERT_DOWN, x, hidden, m->expert_inter);
    }
    if (m->shared_inter == 0) return;
    place(k, &l->shared.gate, TENSOR_SHARED_GATE, 0, m->shared_inter, hidden);
    place(k, &l->shared.up, TENSOR_SHARED_UP, 0, m->shared_inter, hidden);
    place(k, &l->shared.down, TENSOR_SHARED_DOWN, 0, hidden, m->shared_inter);
}

static void walk_embed(struct walk *k, const struct model_spec *s) {
    const struct tensor *t = tensor_of(k, TENSOR_EMBED, 0);
    uint64_t n = t == NULL ? (uint64_t)s->vocab * s->hidden * 2 : t->bytes;
    uint8_t *p = take(k, n);
    k->w->embed = p;
    k->w->embed_dtype = t == NULL ? DTYPE_BF16 : t->dtype;
    if (p != NULL) memcpy(p, t->data, n);
}

static void walk(struct walk *k) {
    const struct weights_load *ld = k->load;
    const struct model_spec *s = ld->spec;
    if (ld->first == 0) walk_embed(k, s);
    struct layer_weights unused;
    for (uint32_t i = ld->first; i < ld->end && !k->cancelled; i++) {
        const struct layer_spec *spec = &s->layer[i];
        struct layer_weights *l = k->w->layers == NULL ? &unused : &k->w->layers[i - ld->first];
        if (l == &unused) memset(&unused, 0, sizeof unused);
        k->layer = i;
        l->attention_norm = place_vector(k, TENSOR_ATTENTION_NORM, s->hidden);
        (spec->attention.kind == ATTENTION_MLA ? walk_mla : walk_gqa)(k, l, &spec->attention, s->hidden);
        l->mlp_norm = place_vector(k, TENSOR_MLP_NORM, s->hidden);
        if (spec->mlp.kind == MLP_MOE) {
            walk_moe(k, l, &spec->mlp, s->hidden);
        } else {
            walk_mlp(k, &l->mlp, &spec->mlp, s->hidden);
        }
    }
    if (ld->end != s->layers || k->cancelled) return;
    k->w->final_norm = place_vector(k, TENSOR_FINAL_NORM, s->hidden);
    place(k, &k->w->head, s->tied ? TENSOR_EMBED : TENSOR_HEAD, 0, s->vocab, s->hidden);
}

uint64_t weights_bytes(const struct weights_load *wanted) {
    struct weights none = {0};
    bool tensors = wanted->model != NULL && model_fingerprint(wanted->model)[0] != '\0';
    struct weights_load load = *wanted;
    if (!tensors) load.model = NULL;
    struct walk k = {.load = &load, .w = &none};
    walk(&k);
    return k.used;
}

static void create_layers(struct weights *w, const struct weights_load *load) {
    w->n_layers = load->end - load->first;
    w->layers = xcalloc(w->n_layers, sizeof *w->layers);
    for (uint32_t i = load->first; i < load->end; i++) {
        const struct layer_spec *s = &load->spec->layer[i];
        struct layer_weights *l = &w->layers[i - load->first];
        if (s->attention.kind == ATTENTION_MLA) {
            l->uk = xcalloc(2 * (size_t)s->attention.heads, sizeof *l->uk);
            l->uv = l->uk + s->attention.heads;
        }
        if (s->mlp.kind == MLP_MOE) l->experts = xcalloc(s->mlp.experts, sizeof *l->experts);
    }
}

err_id weights_load(struct weights *w, const struct weights_load *load, struct error *e) {
    *w = (struct weights){0};
    uint64_t bytes = weights_bytes(load);
    bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return error_set(e, ERR_SYSTEM, "%llu bytes for weights were refused: %m", (unsigned long long)bytes);
    }
    madvise(p, bytes, MADV_HUGEPAGE); // a hint
    w->memory = p;
    w->bytes = bytes;
    create_layers(w, load);
    struct walk k = {.load = load, .w = w, .total = bytes};
    walk(&k);
    k.used = k.total;
    report(&k);
    err_id id = k.cancelled ? error_set(e, ERR_CANCELLED, "loading was given up") : model_check(load->model, e);
    if (id == ERR_NONE && atomic_load(&k.not_numbers))
        id = error_set(e, ERR_MODEL_FILES, "an FP8 matrix of the model holds what isn't a number: its files are damaged");
    if (id != ERR_NONE) weights_fini(w);
    return id;
}

void weights_fini(struct weights *w) {
    if (w->memory != NULL) munmap(w->memory, w->bytes);
    for (uint32_t i = 0; i < w->n_layers; i++) {
        free(w->layers[i].uk);
        free(w->layers[i].experts);
    }
    free(w->layers);
    *w = (struct weights){0};
}

void weights_embed(const struct weights *w, uint32_t token, uint32_t hidden, float *out) {
    struct dtype_block block = dtype_block(w->embed_dtype);
    const uint8_t *row = w->embed + (size_t)token * (hidden / block.elements) * block.bytes;
    const struct form *f = &forms[form_of(w->embed_dtype)];
    struct tensor plain = {.dtype = w->embed_dtype, .data = row};
    for (uint32_t i = 0; f->floats == NULL && i < hidden; i++) out[i] = tensor_element(&plain, i);
    for (uint32_t b = 0; f->floats != NULL && b < hidden / f->block; b++)
        f->floats(row + (size_t)b * f->file_bytes, out + (size_t)b * f->block);
}
