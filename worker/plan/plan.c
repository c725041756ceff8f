// Layout, building and validation of step plans: see plan.h.
#include "worker/plan/plan.h"
#include <string.h>
#include "common/base/check.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "step plans are little endian and read in place"
#endif

struct layout {
    uint64_t rows, tokens, deltas, copies, total;
};

// 64-bit sums: counts from an untrusted head can't overflow them.
static struct layout layout_of(uint64_t rows, uint64_t tokens, uint64_t deltas, uint64_t copies) {
    struct layout l = {.rows = sizeof(struct plan_head)};
    l.tokens = l.rows + rows * sizeof(struct plan_row);
    l.deltas = l.tokens + tokens * sizeof(uint32_t);
    l.copies = l.deltas + deltas * sizeof(struct plan_delta);
    l.total = (l.copies + copies * sizeof(struct plan_copy) + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
    return l;
}

static struct layout layout_of_caps(const struct plan_caps *c) {
    return layout_of(c->rows, c->tokens, c->deltas, c->copies);
}

static struct layout layout_of_head(const struct plan_head *h) {
    return layout_of(h->n_rows, h->n_tokens, h->n_deltas, h->n_copies);
}

size_t plan_bytes_max(const struct plan_caps *caps) { return layout_of_caps(caps).total; }

// ---- building: sections sit at the places that full capacity would give them, and are moved together at the end ----

void plan_builder_init(struct plan_builder *b, void *buffer, const struct plan_caps *caps, uint64_t step) {
    CHECK((uintptr_t)buffer % PLAN_ALIGN == 0);
    *b = (struct plan_builder){.bytes = buffer, .caps = *caps};
    b->head = (struct plan_head){.magic = PLAN_MAGIC, .abi = PLAN_ABI, .step = step};
}

bool plan_builder_tokens(struct plan_builder *b, const uint32_t *tokens, uint32_t n, uint32_t *token_off) {
    if (n > b->caps.tokens - b->head.n_tokens) return false;
    uint8_t *at = b->bytes + layout_of_caps(&b->caps).tokens + b->head.n_tokens * sizeof(uint32_t);
    if (n > 0) memcpy(at, tokens, n * sizeof(uint32_t));
    *token_off = b->head.n_tokens;
    b->head.n_tokens += n;
    return true;
}

bool plan_builder_row(struct plan_builder *b, const struct plan_row *row) {
    if (b->head.n_rows == b->caps.rows) return false;
    memcpy(b->bytes + layout_of_caps(&b->caps).rows + b->head.n_rows++ * sizeof *row, row, sizeof *row);
    return true;
}

bool plan_builder_delta(struct plan_builder *b, uint32_t slot, uint32_t index, uint32_t block) {
    if (b->head.n_deltas == b->caps.deltas) return false;
    struct plan_delta d = {slot, index, block};
    memcpy(b->bytes + layout_of_caps(&b->caps).deltas + b->head.n_deltas++ * sizeof d, &d, sizeof d);
    return true;
}

bool plan_builder_copy(struct plan_builder *b, uint32_t src, uint32_t dst) {
    if (b->head.n_copies == b->caps.copies) return false;
    struct plan_copy c = {src, dst};
    memcpy(b->bytes + layout_of_caps(&b->caps).copies + b->head.n_copies++ * sizeof c, &c, sizeof c);
    return true;
}

size_t plan_builder_finish(struct plan_builder *b) {
    struct layout from = layout_of_caps(&b->caps), to = layout_of_head(&b->head);
    struct plan_head *h = &b->head;
    memmove(b->bytes + to.tokens, b->bytes + from.tokens, h->n_tokens * sizeof(uint32_t));
    memmove(b->bytes + to.deltas, b->bytes + from.deltas, h->n_deltas * sizeof(struct plan_delta));
    memmove(b->bytes + to.copies, b->bytes + from.copies, h->n_copies * sizeof(struct plan_copy));
    uint64_t end = to.copies + h->n_copies * sizeof(struct plan_copy);
    memset(b->bytes + end, 0, to.total - end);
    CHECK(to.total <= UINT32_MAX);
    h->total_bytes = (uint32_t)to.total;
    h->rows_off = (uint32_t)to.rows;
    h->tokens_off = (uint32_t)to.tokens;
    h->deltas_off = (uint32_t)to.deltas;
    h->copies_off = (uint32_t)to.copies;
    memcpy(b->bytes, h, sizeof *h);
    b->bytes = NULL;
    return h->total_bytes;
}

// ---- checking ----

static err_id check_head(const void *bytes, size_t len, const struct plan_limits *lim, struct error *e) {
    if ((uintptr_t)bytes % PLAN_ALIGN != 0) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the step plan is not aligned to %d bytes", PLAN_ALIGN);
    }
    if (len < sizeof(struct plan_head)) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the step plan has %zu bytes, less than its head's %zu", len,
                         sizeof(struct plan_head));
    }
    const struct plan_head *h = bytes;
    if (h->magic != PLAN_MAGIC)
        return error_set(e, ERR_INVALID_ARGUMENT, "this is not a step plan (its magic is %#x)", h->magic);
    if (h->abi != PLAN_ABI) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the step plan has version %u, this engine reads %d", h->abi, PLAN_ABI);
    }
    struct layout l = layout_of_head(h);
    if (l.total != len || h->total_bytes != len || h->rows_off != l.rows || h->tokens_off != l.tokens ||
        h->deltas_off != l.deltas || h->copies_off != l.copies) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the step plan's counts and offsets don't add up to its %zu bytes", len);
    }
    if (h->n_rows > lim->caps.rows || h->n_tokens > lim->caps.tokens || h->n_deltas > lim->caps.deltas ||
        h->n_copies > lim->caps.copies) {
        return error_set(e, ERR_INVALID_ARGUMENT,
                         "the step plan has %u rows, %u tokens, %u deltas, %u copies; the limits are %u, %u, %u, %u",
                         h->n_rows, h->n_tokens, h->n_deltas, h->n_copies, lim->caps.rows, lim->caps.tokens,
                         lim->caps.deltas, lim->caps.copies);
    }
    if (h->group_epoch != lim->group_epoch) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the step plan is of group epoch %u, the engine is in %u", h->group_epoch,
                         lim->group_epoch);
    }
    return ERR_NONE;
}

// Which tokens of the plan a row uses, and whether its mode, position and tokens go together.
static const char *row_fault(const struct plan_row *r, uint32_t n_tokens, const struct plan_limits *lim) {
    if (r->slot >= lim->slots || r->slot >= PLAN_SLOTS_MAX) return "names a slot that does not exist";
    if (r->q_len == 0) return "has no tokens";
    if (r->q_len > lim->batch_tokens) return "has more tokens than a step may";
    if (r->logits >= PLAN_LOGITS_COUNT) return "asks for an unknown kind of logits";
    if (r->adapter != PLAN_NO_ADAPTER && r->adapter >= lim->adapters) return "names an adapter that is not loaded";
    if (r->pos != PLAN_POS_DEVICE && (r->pos > lim->context || r->q_len > lim->context - r->pos))
        return "leaves the context";
    if (r->token_off == PLAN_TOKEN_DEVICE) return r->q_len == 1 ? NULL : "takes more than one token from the device";
    uint32_t given = r->logits == PLAN_LOGITS_VERIFY ? r->q_len - 1 : r->q_len;
    if (r->token_off > n_tokens || given > n_tokens - r->token_off) return "takes tokens that the plan does not have";
    return NULL;
}

static err_id check_rows(const struct plan_view *v, const struct plan_limits *lim, struct error *e) {
    uint64_t seen[PLAN_SLOTS_MAX / 64] = {0};
    uint64_t q_total = 0;
    for (uint32_t i = 0; i < v->head->n_rows; i++) {
        const struct plan_row *r = &v->rows[i];
        const char *fault = row_fault(r, v->head->n_tokens, lim);
        if (fault == NULL && (seen[r->slot / 64] >> (r->slot % 64) & 1)) fault = "is its slot's second";
        if (fault != NULL) return error_set(e, ERR_INVALID_ARGUMENT, "row %u of the step plan %s", i, fault);
        seen[r->slot / 64] |= UINT64_C(1) << (r->slot % 64);
        q_total += r->q_len;
    }
    if (q_total > lim->batch_tokens) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the step plan runs %llu tokens, a step may run %u",
                         (unsigned long long)q_total, lim->batch_tokens);
    }
    for (uint32_t i = 0; i < v->head->n_tokens; i++) {
        if (v->tokens[i] >= lim->vocab) {
            return error_set(e, ERR_INVALID_ARGUMENT, "token id %u is outside the vocabulary of %u", v->tokens[i],
                             lim->vocab);
        }
    }
    return ERR_NONE;
}

static err_id check_blocks(const struct plan_view *v, const struct plan_limits *lim, struct error *e) {
    uint32_t indexes = lim->block_tokens == 0 ? 0 : (lim->context + lim->block_tokens - 1) / lim->block_tokens;
    for (uint32_t i = 0; i < v->head->n_deltas; i++) {
        const struct plan_delta *d = &v->deltas[i];
        if (d->slot >= lim->slots || d->index >= indexes || d->block >= lim->blocks) {
            return error_set(e, ERR_INVALID_ARGUMENT,
                             "delta %u of the step plan (slot %u, index %u, block %u) is out of range", i, d->slot, d->index,
                             d->block);
        }
    }
    for (uint32_t i = 0; i < v->head->n_copies; i++) {
        const struct plan_copy *c = &v->copies[i];
        if (c->src >= lim->blocks || c->dst >= lim->blocks || c->src == c->dst) {
            return error_set(e, ERR_INVALID_ARGUMENT, "copy %u of the step plan (block %u to %u) is out of range", i, c->src,
                             c->dst);
        }
    }
    return ERR_NONE;
}

err_id plan_check(const void *bytes, size_t len, const struct plan_limits *limits, struct error *e) {
    TRY(check_head(bytes, len, limits, e));
    struct plan_view v = plan_view(bytes);
    TRY(check_rows(&v, limits, e));
    return check_blocks(&v, limits, e);
}

struct plan_view plan_view(const void *bytes) {
    const struct plan_head *h = bytes;
    const uint8_t *p = bytes;
    return (struct plan_view){
        .head = h,
        .rows = (const void *)(p + h->rows_off),
        .tokens = (const void *)(p + h->tokens_off),
        .deltas = (const void *)(p + h->deltas_off),
        .copies = (const void *)(p + h->copies_off),
    };
}
