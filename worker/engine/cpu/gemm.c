#include "worker/engine/cpu/gemm.h"

enum { STRIPE_ROWS = 96, SMALL_WORK = 1 << 15 };

struct run {
    const struct kernels *kernels;
    const struct gemm_job *jobs;
    uint32_t n;
    uint32_t group; // panels in a unit
};

static uint32_t panels_of(const struct matrix *m) { return (m->n + PANEL_ROWS - 1) / PANEL_ROWS; }

static void unit_run(const struct run *r, const struct gemm_job *j, uint32_t unit) {
    uint32_t panel = unit / j->stripes * r->group, row = unit % j->stripes * STRIPE_ROWS;
    uint32_t panels = panels_of(j->w) - panel, rows = j->stripes == 1 ? j->m : j->m - row;
    size_t panel_bytes = form_panel_bytes(j->w->form, j->w->k);
    bool packed = j->w->form == FORM_BF16;
    size_t x_off = j->rows == NULL ? row * j->ld_x : 0;
    struct gemm_call c = {
        .w = (const char *)j->w->panels + panel * panel_bytes,
        .panels = panels < r->group ? panels : r->group,
        .n = j->w->n - panel * PANEL_ROWS,
        .k = j->w->k,
        .x = packed ? NULL : j->x + x_off,
        .packed = packed ? j->packed + x_off : NULL,
        .ld_x = j->ld_x,
        .rows = j->rows == NULL ? NULL : j->rows + row,
        .m = j->stripes > 1 && rows > STRIPE_ROWS ? STRIPE_ROWS : rows,
        .out = j->out + row * j->ld_out + (size_t)panel * PANEL_ROWS,
        .ld_out = j->ld_out,
        .bias = j->bias == NULL ? NULL : j->bias + (size_t)panel * PANEL_ROWS,
    };
    r->kernels->gemm[j->w->form](&c);
}

static void units_run(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct run *r = context;
    uint32_t low = 0, high = r->n; // the last job whose first unit is <= begin
    while (high - low > 1) {
        uint32_t mid = (low + high) / 2;
        if (r->jobs[mid].first_unit <= begin) {
            low = mid;
        } else {
            high = mid;
        }
    }
    for (uint32_t u = begin; u < end; u++) {
        while (low + 1 < r->n && r->jobs[low + 1].first_unit <= u) low++;
        unit_run(r, &r->jobs[low], u - r->jobs[low].first_unit);
    }
}

void gemm_run(struct pool *pool, const struct kernels *kernels, struct gemm_job *jobs, uint32_t n) {
    uint64_t panels = 0, work = 0;
    for (uint32_t i = 0; i < n; i++) {
        panels += panels_of(jobs[i].w);
        work += (uint64_t)jobs[i].w->n * jobs[i].w->k * jobs[i].m;
    }
    uint32_t threads = pool_threads(pool);
    struct run r = {kernels, jobs, n, panels >= 16 * threads ? 8 : panels >= 8 * threads ? 4 : 1};
    uint32_t units = 0;
    for (uint32_t i = 0; i < n; i++) {
        jobs[i].first_unit = units;
        jobs[i].stripes = (jobs[i].m + STRIPE_ROWS - 1) / STRIPE_ROWS;
        if (jobs[i].stripes == 0) jobs[i].stripes = 1;
        units += (panels_of(jobs[i].w) + r.group - 1) / r.group * jobs[i].stripes;
    }
    pool_for(pool, units, work <= SMALL_WORK ? units : 1, units_run, &r);
}
