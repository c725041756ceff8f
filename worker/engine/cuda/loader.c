#include "worker/engine/cuda/loader.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "worker/engine/cuda/library.h"

static bool same_build(const struct cuda_library *l) {
    static const uint32_t here[CUDA_LIBRARY_SIZES] = CUDA_LIBRARY_SIZES_HERE;
    return l->abi == CUDA_LIBRARY_ABI && memcmp(l->sizes, here, sizeof here) == 0;
}

err_id cuda_backend_load(const char *path, const struct backend **backend, struct error *e) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        return error_set(e, ERR_UNAVAILABLE, "--device cuda can't be used, its library could not be loaded: %.300s",
                         dlerror());
    }
    cuda_library_fn *entry;
    *(void **)&entry = dlsym(handle, CUDA_LIBRARY_ENTRY);
    const struct cuda_library *library = entry == NULL ? NULL : entry();
    if (library == NULL || !same_build(library)) {
        dlclose(handle);
        return error_set(e, ERR_UNAVAILABLE, "%.200s is not of the same build as this program: install both together", path);
    }
    *backend = library->backend;
    return ERR_NONE;
}

err_id cuda_backend_find(const struct backend **backend, struct error *e) {
    static const char *const places[] = {"%s/" CUDA_LIBRARY_FILE, "%s/../lib/" CUDA_LIBRARY_FILE};
    char folder[PATH_MAX], path[PATH_MAX + sizeof "/../lib/" CUDA_LIBRARY_FILE];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL) *slash = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, places[i], folder);
        if (access(path, F_OK) == 0) return cuda_backend_load(path, backend, e);
    }
    if (cuda_backend_load(CUDA_LIBRARY_FILE, backend, e) == ERR_NONE) return ERR_NONE;
    return error_set(e, ERR_UNAVAILABLE,
                     "--device cuda needs " CUDA_LIBRARY_FILE
                     " beside this program (in %.200s), and it is not there: use --device cpu",
                     folder);
}
