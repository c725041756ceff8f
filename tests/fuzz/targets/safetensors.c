// A folder with safetensors files. The input: a length (two bytes) and so many bytes of model.safetensors.index.json (none:
// no index), then model.safetensors. It is opened or refused with a sentence; of what is opened every tensor can be read.
#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "worker/model/safetensors.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(int folder, const char *name, const uint8_t *data, size_t size) {
    int fd = openat(folder, name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void read_all(const struct tensor_set *set) {
    uint64_t n, sum = 0;
    const struct tensor *t = tensor_set_all(set, &n);
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t b = 0; b < t[i].bytes; b++) sum += t[i].data[b];
        const struct tensor *found = tensor_set_find(set, t[i].name);
        CHECK(found != NULL && strcmp(found->name, t[i].name) == 0);
    }
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
    char fingerprint[33];
    tensor_set_fingerprint(set, fingerprint);
    CHECK(strlen(fingerprint) == 32);
}

static void try_folder(const char *path) {
    struct tensor_set *set;
    struct error e = {0};
    if (tensor_set_open(path, &set, &e) != ERR_NONE) {
        CHECK((e.id == ERR_MODEL_FILES || e.id == ERR_UNSUPPORTED) && e.text[0] != '\0');
        return;
    }
    tensor_set_scale(set, (const uint32_t[2]){128, 128});
    read_all(set);
    tensor_set_close(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t index = (size_t)(data[0] | data[1] << 8);
    data += 2, size -= 2;
    if (index > size) index = size;
    char path[] = "/tmp/shoal-fuzz-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(folder >= 0);
    if (index > 0) put(folder, "model.safetensors.index.json", data, index);
    put(folder, "model.safetensors", data + index, size - index);
    try_folder(path);
    unlinkat(folder, "model.safetensors.index.json", 0);
    unlinkat(folder, "model.safetensors", 0);
    close(folder);
    rmdir(path);
    return 0;
}
