// A GGUF file: it is opened or refused with a sentence, and of what is opened every document and every tensor's bytes can be
// read.
#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "worker/gguf/gguf.h"
#include "worker/model/model.h"
#include "worker/text/model_text.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void read_tensors(const struct gguf *g) {
    uint64_t n, sum = 0;
    const struct gguf_tensor *t = gguf_tensors(g, &n);
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t b = 0; b < t[i].bytes; b += 509) sum += t[i].data[b];
        if (t[i].bytes > 0) sum += t[i].data[t[i].bytes - 1];
    }
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
}

static void check_refusal(const struct error *e) {
    CHECK((e->id == ERR_MODEL_FILES || e->id == ERR_UNSUPPORTED) && e->text[0] != '\0');
}

static void try_file(const char *path) {
    struct gguf *g;
    struct error e = {0};
    if (gguf_open(path, &g, &e) != ERR_NONE) {
        check_refusal(&e);
        return;
    }
    read_tensors(g);
    gguf_close(&g);
    struct model *m;
    if (model_open(path, &m, &e) == ERR_NONE) {
        model_close(&m);
    } else {
        check_refusal(&e);
    }
    struct model_text *text;
    if (model_text_load(path, &text, &e) == ERR_NONE) {
        model_text_destroy(text);
    } else {
        check_refusal(&e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    int fd = memfd_create("gguf", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    try_file(path);
    close(fd);
    return 0;
}
