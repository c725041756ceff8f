#include "worker/engine/table.h"
#include <string.h>
#include "common/base/check.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/cpu/kernels.h"
#include "worker/engine/cuda/loader.h"
#include "worker/engine/mock/mock.h"

static const struct backend *const backends[] = {&cpu_backend, &mock_backend};

err_id backend_find(const char *name, const struct backend **backend, struct error *e) {
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        *backend = backends[i];
        return ERR_NONE;
    }
    if (strcmp(name, "cuda") == 0) return cuda_backend_find(backend, e);
    return error_set(e, ERR_NOT_FOUND, "there is no device \"%.40s\" in this program; there are %s", name, backend_names());
}

const char *backend_names(void) { return "cpu, cuda, mock"; }

err_id engine_isa_parse(const char *text, uint32_t *isa, struct error *e) {
    for (*isa = 0; *isa < ISA_COUNT; ++*isa) {
        if (strcmp(text == NULL ? "best" : text, isa_names[*isa]) == 0) return ERR_NONE;
    }
    return error_set(e, ERR_INVALID_ARGUMENT, "--isa takes best, generic, avx2, avx512 or avx512-bf16, not \"%.40s\"", text);
}

err_id engine_numeric_parse(const char *text, uint32_t *numeric, struct error *e) {
    bool w8a8 = text != NULL && strcmp(text, "w8a8") == 0;
    *numeric = w8a8 ? ENGINE_NUMERIC_W8A8 : ENGINE_NUMERIC_WEIGHTS;
    if (w8a8 || text == NULL || strcmp(text, "weights") == 0) return ERR_NONE;
    return error_set(e, ERR_INVALID_ARGUMENT, "--numeric takes weights or w8a8, not \"%.40s\"", text);
}
