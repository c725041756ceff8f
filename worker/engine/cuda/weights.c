// Design notes. One walk over the layers counts (arena without memory) and then places. Rows go through two pinned buffers:
// while one is copied to the device, the pool's threads fill the other from the mapped files.
#include "worker/engine/cuda/weights.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/engine/cpu/forms.h"
#include "worker/model/quant.h"

enum { STAGING = 2, STAGING_BYTES = 32 << 20, PAD = 128, FILL_BYTES = 256 << 10 };

struct walk {
    const struct cuda_load *load;
    struct cuda_weights *w;
    uint64_t total;
    uint32_t layer;
    bool cancelled;
    cudaError_t failure;
    uint8_t *staging[STAGING];
    cudaEvent_t copied[STAGING];
    uint32_t next;
};

// ---- rows of tensors ----

struct rows {
    const struct tensor *t;
    uint64_t base, row_stride, col_stride; // elements
    uint32_t k, first;
    uint64_t bytes; // of a row in the staging buffer
    bool raw;       // as the file has it
    bool f32;
    uint8_t *out;
};

static uint16_t bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40); // a NaN stays one
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A row of a type that comes in blocks (GGUF's, quant.h's).
static void block_row(const struct rows *r, uint64_t row, float *out) {
    const struct form *f = &forms[form_of(r->t->dtype)];
    uint64_t bytes = r->t->bytes / r->t->dims[0];
    const uint8_t *in = r->t->data + row * bytes;
    if (r->t->dtype == DTYPE_INT8) {
        float scale;
        memcpy(&scale, in, sizeof scale);
        for (uint32_t i = 0; i < r->k; i++) out[i] = (float)(int8_t)in[4 + i] * scale;
        return;
    }
    for (uint32_t at = 0; at < r->k; at += f->block, in += f->file_bytes) {
        float block[256];
        uint8_t spare[256] = {0}; // the last block of a row may be short
        uint64_t left = bytes - (uint64_t)(at / f->block) * f->file_bytes;
        memcpy(spare, in, left < f->file_bytes ? left : f->file_bytes);
        f->floats(spare, block);
        for (uint32_t i = 0; i < f->block && at + i < r->k; i++) out[at + i] = block[i];
    }
}

static void convert_row(const struct rows *r, uint32_t i, float *scratch) {
    uint64_t row = r->first + i;
    uint8_t *out = r->out + i * r->bytes;
    if (r->raw) {
        uint32_t size = r->t->dtype == DTYPE_F8_E4M3 ? 1 : 2;
        const uint8_t *in = r->t->data + (r->base + row * r->row_stride) * size;
        memcpy(out, in, (uint64_t)r->k * size);
        memset(out + (uint64_t)r->k * size, 0, r->bytes - (uint64_t)r->k * size);
        return;
    }
    float *f = r->f32 ? (float *)out : scratch;
    if (dtype_block(r->t->dtype).elements > 1 || r->t->dtype >= DTYPE_SAFETENSORS) {
        block_row(r, row, f);
    } else {
        for (uint32_t k = 0; k < r->k; k++) f[k] = tensor_element(r->t, r->base + row * r->row_stride + k * r->col_stride);
    }
    for (uint32_t k = 0; !r->f32 && k < r->bytes / 2; k++) ((uint16_t *)out)[k] = k < r->k ? bf16_of(f[k]) : 0;
}

static void convert_rows(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct rows *r = context;
    float *scratch = r->raw ? NULL : xmalloc(r->k * sizeof *scratch);
    for (uint32_t i = begin; i < end; i++) convert_row(r, i, scratch);
    free(scratch);
}

static void note(struct walk *k, cudaError_t id) {
    if (k->failure == cudaSuccess) k->failure = id;
}

// n rows to the device, through the staging buffers.
static void send(struct walk *k, void *to, uint32_t n, struct rows r) {
    uint32_t each = (uint32_t)(STAGING_BYTES / r.bytes);
    CHECK(each > 0);
    for (uint32_t at = 0; at < n && !k->cancelled && k->failure == cudaSuccess; at += each) {
        uint32_t count = n - at < each ? n - at : each, s = k->next++ % STAGING;
        note(k, cudaEventSynchronize(k->copied[s]));
        r.first = at;
        r.out = k->staging[s];
        uint32_t grain = (uint32_t)(FILL_BYTES / r.bytes) + 1;
        pool_for(k->load->pool, count, grain, convert_rows, &r);
        note(k, cudaMemcpyAsync((uint8_t *)to + at * r.bytes, k->staging[s], count * r.bytes, cudaMemcpyHostToDevice,
                                k->load->stream));
        note(k, cudaEventRecord(k->copied[s], k->load->stream));
        if (k->load->progress == NULL) continue;
        k->cancelled = !k->load->progress(k->load->context, (struct engine_load_progress){k->w->memory.used, k->total});
    }
}

// ---- placing ----

static const struct tensor *tensor_of(const struct walk *k, enum tensor_role role, uint32_t expert) {
    return k->load->model == NULL ? NULL : model_tensor(k->load->model, role, k->layer, expert);
}

static bool is_fp8(const struct tensor *t) {
    return t != NULL && t->dtype == DTYPE_F8_E4M3 && t->scale != NULL && t->block[0] == 128 && t->block[1] == 128;
}

// Room for `count` matrices of n x inputs, in the form of tensor t.
static struct cuda_matrix reserve(struct walk *k, const struct tensor *t, uint32_t n, uint32_t inputs, uint32_t count,
                                  bool fp8) {
    struct cuda_matrix m = {.n = n, .k = inputs, .ld = (uint32_t)round_up(inputs, PAD)};
    m.w = arena_take(&k->w->memory, (uint64_t)count * n * m.ld * (fp8 ? 1 : 2));
    if (fp8) m.scale = arena_take(&k->w->memory, (uint64_t)count * ((n + 127) / 128) * (m.ld / 128) * sizeof(float));
    if (t != NULL && !fp8 && t->dtype != DTYPE_BF16) k->w->expanded = true;
    return m;
}

static void send_matrix(struct walk *k, void *to, const struct tensor *t, uint32_t n, uint32_t inputs, bool fp8) {
    struct rows r = {.t = t, .row_stride = inputs, .col_stride = 1, .k = inputs, .raw = fp8 || t->dtype == DTYPE_BF16};
    r.bytes = round_up(inputs, PAD) * (fp8 ? 1 : 2);
    send(k, to, n, r);
}

static void send_floats(struct walk *k, float *to, const struct tensor *t, uint32_t n, uint32_t cols) {
    send(k, to, n,
         (struct rows){.t = t, .row_stride = cols, .col_stride = 1, .k = cols, .bytes = cols * sizeof(float), .f32 = true});
}

// The rows of one tensor into a matrix from row `first` on (FP8: a multiple of 128).
static void fill(struct walk *k, const struct cuda_matrix *m, const struct tensor *t, uint64_t first, uint32_t n) {
    if (m->w == NULL) return;
    send_matrix(k, (uint8_t *)m->w + first * m->ld * (m->scale != NULL ? 1 : 2), t, n, m->k, m->scale != NULL);
    if (m->scale == NULL) return;
    CHECK(t->scale->dims[1] == m->ld / 128);
    send_floats(k, m->scale + first / 128 * (m->ld / 128), t->scale, (n + 127) / 128, m->ld / 128);
}

static void place(struct walk *k, struct cuda_matrix *m, enum tensor_role role, uint32_t n, uint32_t inputs) {
    const struct tensor *t = tensor_of(k, role, 0);
    *m = reserve(k, t, n, inputs, 1, is_fp8(t));
    fill(k, m, t, 0, n);
}

static void place_experts(struct walk *k, struct cuda_matrix *m, enum tensor_role role, uint32_t experts, uint32_t n,
                          uint32_t inputs) {
    bool fp8 = true;
    for (uint32_t x = 0; x < experts; x++) fp8 = fp8 && is_fp8(tensor_of(k, role, x));
    *m = reserve(k, tensor_of(k, role, 0), n, inputs, experts, fp8);
    uint32_t scale_rows = (n + 127) / 128;
    for (uint32_t x = 0; x < experts && m->w != NULL; x++) {
        struct cuda_matrix one = *m;
        one.w = (uint8_t *)m->w + (uint64_t)x * n * m->ld * (fp8 ? 1 : 2);
        if (fp8) one.scale = m->scale + (uint64_t)x * scale_rows * (m->ld / 128);
        fill(k, &one, tensor_of(k, role, x), 0, n);
    }
}

struct part {
    enum tensor_role role;
    uint32_t n, column;
};

static void place_stack(struct walk *k, struct cuda_stack *s, const struct part *parts, uint32_t n_parts, uint32_t inputs) {
    bool fp8 = is_fp8(tensor_of(k, parts[0].role, 0)), one = true;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        one =
            one && is_fp8(tensor_of(k, parts[i].role, 0)) == fp8 && parts[i].column == n && (!fp8 || parts[i].n % 128 == 0);
        n += parts[i].n;
    }
    s->parts = one ? 1 : n_parts;
    if (one) {
        s->part[0] = reserve(k, tensor_of(k, parts[0].role, 0), n, inputs, 1, fp8);
        s->column[0] = 0;
    }
    for (uint32_t i = 0; i < n_parts; i++) {
        const struct tensor *t = tensor_of(k, parts[i].role, 0);
        if (!one) s->part[i] = reserve(k, t, parts[i].n, inputs, 1, is_fp8(t));
        if (!one) s->column[i] = parts[i].column;
        fill(k, &s->part[one ? 0 : i], t, one ? parts[i].column : 0, parts[i].n);
    }
}

static float *place_vector(struct walk *k, enum tensor_role role, uint32_t n) {
    float *p = arena_take(&k->w->memory, n * sizeof(float));
    const struct tensor *t = tensor_of(k, role, 0);
    if (p != NULL) send_floats(k, p, t, 1, n);
    return p;
}

// ---- the walk ----

static void walk_gqa(struct walk *k, struct cuda_layer *l, const struct attention_spec *a, uint32_t hidden) {
    uint32_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    const struct part parts[] = {{TENSOR_Q, q, 0}, {TENSOR_K, kv, q}, {TENSOR_V, kv, q + kv}};
    place_stack(k, &l->qkv, parts, 3, hidden);
    place(k, &l->out, TENSOR_OUT, hidden, q);
    if (a->qkv_bias) {
        l->qkv_bias = arena_take(&k->w->memory, (q + 2 * kv) * sizeof(float));
        if (l->qkv_bias != NULL) {
            send_floats(k, l->qkv_bias, tensor_of(k, TENSOR_Q_BIAS, 0), 1, q);
            send_floats(k, l->qkv_bias + q, tensor_of(k, TENSOR_K_BIAS, 0), 1, kv);
            send_floats(k, l->qkv_bias + q + kv, tensor_of(k, TENSOR_V_BIAS, 0), 1, kv);
        }
    }
    if (a->out_bias) l->out_bias = place_vector(k, TENSOR_OUT_BIAS, hidden);
    if (a->qk_norm) {
        l->q_norm = place_vector(k, TENSOR_Q_NORM, a->head_dim);
        l->k_norm = place_vector(k, TENSOR_K_NORM, a->head_dim);
    }
}

static void walk_mla(struct walk *k, struct cuda_layer *l, const struct attention_spec *a, uint32_t hidden) {
    uint32_t q = a->heads * (a->nope_dim + a->rope_dim);
    if (a->q_lora == 0) {
        place(k, &l->q, TENSOR_Q, q, hidden);
    } else {
        place(k, &l->q_a, TENSOR_Q_A, a->q_lora, hidden);
        l->q_a_norm = place_vector(k, TENSOR_Q_A_NORM, a->q_lora);
        place(k, &l->q_b, TENSOR_Q_B, q, a->q_lora);
    }
    place(k, &l->kv_a, TENSOR_KV_A, a->kv_lora + a->rope_dim, hidden);
    l->kv_a_norm = place_vector(k, TENSOR_KV_A_NORM, a->kv_lora);
    const struct tensor *kv_b = tensor_of(k, TENSOR_KV_B, 0);
    l->uk = reserve(k, kv_b, a->kv_lora, a->nope_dim, a->heads, false);
    l->uv = reserve(k, kv_b, a->v_dim, a->kv_lora, a->heads, false);
    for (uint32_t h = 0; h < a->heads && l->uk.w != NULL; h++) {
        uint64_t base = (uint64_t)h * (a->nope_dim + a->v_dim) * a->kv_lora;
        struct rows uk = {.t = kv_b, .base = base, .row_stride = 1, .col_stride = a->kv_lora, .k = a->nope_dim};
        struct rows uv = {
            .t = kv_b, .base = base + (uint64_t)a->nope_dim * a->kv_lora, .row_stride = a->kv_lora, .col_stride = 1};
        uk.bytes = l->uk.ld * 2ull;
        uv.k = a->kv_lora;
        uv.bytes = l->uv.ld * 2ull;
        send(k, (uint8_t *)l->uk.w + h * a->kv_lora * uk.bytes, a->kv_lora, uk);
        send(k, (uint8_t *)l->uv.w + h * a->v_dim * uv.bytes, a->v_dim, uv);
    }
    place(k, &l->out, TENSOR_OUT, hidden, a->heads * a->v_dim);
}

static void walk_mlp(struct walk *k, struct cuda_mlp *w, const enum tensor_role roles[3], uint32_t inter, uint32_t hidden) {
    const struct part parts[] = {{roles[0], inter, 0}, {roles[1], inter, (uint32_t)round_up(inter, PAD)}};
    place_stack(k, &w->gate_up, parts, 2, hidden);
    place(k, &w->down, roles[2], hidden, inter);
}

static void walk_layer_mlp(struct walk *k, struct cuda_layer *l, const struct mlp_spec *m, uint32_t hidden) {
    static const enum tensor_role dense[] = {TENSOR_GATE, TENSOR_UP, TENSOR_DOWN};
    static const enum tensor_role shared[] = {TENSOR_SHARED_GATE, TENSOR_SHARED_UP, TENSOR_SHARED_DOWN};
    if (m->kind != MLP_MOE) {
        walk_mlp(k, &l->mlp, dense, m->inter, hidden);
        if (!m->bias) return;
        l->mlp.gate_up_bias[0] = place_vector(k, TENSOR_GATE_BIAS, m->inter);
        l->mlp.gate_up_bias[1] = place_vector(k, TENSOR_UP_BIAS, m->inter);
        l->mlp.down_bias = place_vector(k, TENSOR_DOWN_BIAS, hidden);
        return;
    }
    l->router = arena_take(&k->w->memory, (uint64_t)m->experts * hidden * sizeof(float));
    if (l->router != NULL) send_floats(k, l->router, tensor_of(k, TENSOR_ROUTER, 0), m->experts, hidden);
    if (m->choice_bias) l->router_bias = place_vector(k, TENSOR_ROUTER_BIAS, m->experts);
    place_experts(k, &l->expert_gate, TENSOR_EXPERT_GATE, m->experts, m->expert_inter, hidden);
    place_experts(k, &l->expert_up, TENSOR_EXPERT_UP, m->experts, m->expert_inter, hidden);
    place_experts(k, &l->expert_down, TENSOR_EXPERT_DOWN, m->experts, hidden, m->expert_inter);
    if (m->shared_inter > 0) walk_mlp(k, &l->shared, shared, m->shared_inter, hidden);
}

static void walk(struct walk *k) {
    const struct cuda_load *ld = k->load;
    const struct model_spec *s = ld->spec;
    if (ld->first == 0) {
        struct cuda_matrix embed;
        place(k, &embed, TENSOR_EMBED, s->vocab, s->hidden);
        k->w->embed = embed.w;
        k->w->embed_ld = embed.ld;
        if (s->tied && ld->end == s->layers) k->w->head = embed;
    }
    for (uint32_t i = ld->first; i < ld->end && !k->cancelled; i++) {
        const struct layer_spec *spec = &s->layer[i];
        struct cuda_layer unused = {0}, *l = k->w->layers == NULL ? &unused : &k->w->layers[i - ld->first];
        k->layer = i;
        l->attention_norm = place_vector(k, TENSOR_ATTENTION_NORM, s->hidden);
        (spec->attention.kind == ATTENTION_MLA ? walk_mla : walk_gqa)(k, l, &spec->attention, s->hidden);
        l->mlp_norm = place_vector(k, TENSOR_MLP_NORM, s->hidden);
        walk_layer_mlp(k, l, &spec->mlp, s->hidden);
    }
    if (ld->end != s->layers || k->cancelled) return;
    k->w->final_norm = place_vector(k, TENSOR_FINAL_NORM, s->hidden);
    if (!s->tied || ld->first > 0) place(k, &k->w->head, s->tied ? TENSOR_EMBED : TENSOR_HEAD, s->vocab, s->hidden);
}

uint64_t cuda_weights_bytes(const struct cuda_load *wanted) {
    struct cuda_weights none = {0};
    struct cuda_load load = *wanted;
    if (load.model != NULL && model_fingerprint(load.model)[0] == '\0') load.model = NULL;
    struct walk k = {.load = &load, .w = &none};
    walk(&k);
    return none.memory.used;
}

static void staging_fini(struct walk *k) {
    for (int i = 0; i < STAGING; i++) {
        if (k->copied[i] != NULL) cudaEventDestroy(k->copied[i]);
        if (k->staging[i] != NULL) cudaFreeHost(k->staging[i]);
    }
}

err_id cuda_weights_load(struct cuda_weights *w, const struct cuda_load *load, struct error *e) {
    *w = (struct cuda_weights){.n_layers = load->end - load->first};
    struct walk k = {.load = load, .w = w, .total = cuda_weights_bytes(load)};
    w->memory.used = k.total;
    TRY(arena_create(&w->memory, "weights", e));
    w->layers = xcalloc(w->n_layers, sizeof *w->layers);
    for (int i = 0; i < STAGING; i++) {
        note(&k, cudaHostAlloc((void **)&k.staging[i], STAGING_BYTES, cudaHostAllocDefault));
        note(&k, cudaEventCreateWithFlags(&k.copied[i], cudaEventDisableTiming));
    }
    if (k.failure == cudaSuccess) walk(&k);
    note(&k, cudaStreamSynchronize(load->stream));
    staging_fini(&k);
    err_id id =
        k.cancelled ? error_set(e, ERR_CANCELLED, "loading was given up") : device_error(k.failure, "loading weights", e);
    if (id == ERR_NONE) id = model_check(load->model, e);
    if (id == ERR_NONE && load->progress != NULL)
        load->progress(load->context, (struct engine_load_progress){k.total, k.total});
    if (id != ERR_NONE) cuda_weights_fini(w);
    return id;
}

void cuda_weights_fini(struct cuda_weights *w) {
    arena_destroy(&w->memory);
    free(w->layers);
    *w = (struct cuda_weights){0};
}
