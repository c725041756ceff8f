#include "worker/main/fingerprint.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/sys/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void worker_fingerprint(const char *engine, const char *path, char out[FINGERPRINT_SIZE]) {
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                                        "generation_config.json"};
    uint64_t a = hash_bytes(engine, strlen(engine), 1), b = hash_bytes(engine, strlen(engine), 2);
    for (size_t i = 0; path && i < ARRAY_LEN(files); i++) {
        char name[CONFIG_PATH_SIZE + 64], block[1 << 16];
        snprintf(name, sizeof name, "%s/%s", path, files[i]);
        FILE *f = fopen(name, "rb");
        for (size_t n; f && (n = fread(block, 1, sizeof block, f)) > 0;)
            a = hash_bytes(block, n, a), b = hash_bytes(block, n, b);
        if (f) fclose(f);
    }
    snprintf(out, FINGERPRINT_SIZE, "%016" PRIx64 "%016" PRIx64, a, b);
}
