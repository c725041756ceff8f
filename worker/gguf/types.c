#include "worker/gguf/types.h"
#include <stdio.h>
#include "common/base/check.h"

const struct gguf_type_facts gguf_types[GGUF_TYPES] = {
    [GGUF_TYPE_F32] = {"F32", 0, 1, 4},        [GGUF_TYPE_F16] = {"F16", 1, 1, 2},
    [GGUF_TYPE_BF16] = {"BF16", 30, 1, 2},     [GGUF_TYPE_Q4_0] = {"Q4_0", 2, 32, 18},
    [GGUF_TYPE_Q4_1] = {"Q4_1", 3, 32, 20},    [GGUF_TYPE_Q5_0] = {"Q5_0", 6, 32, 22},
    [GGUF_TYPE_Q5_1] = {"Q5_1", 7, 32, 24},    [GGUF_TYPE_Q8_0] = {"Q8_0", 8, 32, 34},
    [GGUF_TYPE_Q4_K] = {"Q4_K", 12, 256, 144}, [GGUF_TYPE_Q5_K] = {"Q5_K", 13, 256, 176},
    [GGUF_TYPE_Q6_K] = {"Q6_K", 14, 256, 210},
};

// Types that ggml has or had and that are not read.
static const char *const others[] = {
    [9] = "Q8_1",      [10] = "Q2_K",     [11] = "Q3_K",     [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS",
    [18] = "IQ3_XXS",  [19] = "IQ1_S",    [20] = "IQ4_NL",   [21] = "IQ3_S", [22] = "IQ2_S",   [23] = "IQ4_XS",
    [24] = "I8",       [25] = "I16",      [26] = "I32",      [27] = "I64",   [28] = "F64",     [29] = "IQ1_M",
    [31] = "Q4_0_4_4", [32] = "Q4_0_4_8", [33] = "Q4_0_8_8", [34] = "TQ1_0", [35] = "TQ2_0",   [39] = "MXFP4",
};

bool gguf_type_of(uint32_t number, enum gguf_type *type) {
    for (uint32_t i = 0; i < GGUF_TYPES; i++) {
        if (gguf_types[i].number != number) continue;
        *type = (enum gguf_type)i;
        return true;
    }
    return false;
}

const char *gguf_unsupported_name(uint32_t number, char spare[24]) {
    if (number < ARRAY_LEN(others) && others[number] != NULL) return others[number];
    snprintf(spare, 24, "%u (unknown)", number);
    return spare;
}

const char *gguf_type_name(enum gguf_type type) { return gguf_types[type].name; }
