#include "worker/engine/table.h"
#include <string.h>
#include "common/base/check.h"
#include "worker/engine/cpu/cpu.h"
#include "worker/engine/mock/mock.h"

static const struct backend *const backends[] = {&cpu_backend, &mock_backend};

err_id backend_find(const char *name, const struct backend **backend, struct error *e) {
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        *backend = backends[i];
        return ERR_NONE;
    }
    return error_set(e, ERR_NOT_FOUND, "there is no device \"%.40s\" in this program; there are %s", name, backend_names());
}

const char *backend_names(void) { return "cpu, mock"; }
