// The forms that a matrix has in memory: bf16, fp16 and fp32, and the quantised forms of GGUF files, which stay as they are
// but for their order. A panel of 16 rows goes through memory from k to k:
//
//   BF16 [k/2][16][2]    F32 [k][16]    F16 [k][16]
//   Q8_0 per 32:  d[16] as fp16, then int8 [32][16]
//   Q4_0 per 32:  d[16], then nibbles [16][16], a byte's lower one for the even k
//   Q4_1 per 32:  d[16], m[16], nibbles             Q5_0, Q5_1: before the nibbles their fifth bits, a word per row
//   Q4_K per 256: d[16], dmin[16], then 8 times 32: scale[16] and minimum[16] as bytes, nibbles    Q5_K: with fifth bits
//   Q6_K per 256: d[16], then 8 times 32: two int8 scales [2][16], upper two bits of each half as words [2][16], nibbles
//   INT8 (quant.h): scale[16] as fp32, sums of the rows [16] as int32; then per 4: int8 [16][4]
//   INT4 (quant.h) per 64: d[16], m[16], nibbles [32][16]
//   F8 (e4m3 with scales of blocks) per 128: scale[16] as fp32, bytes [128][16]
//
// An element is worth, a product and what is added to it rounded once: (q - 8) d, q d + m, (q - 16) d, q d, q (scale d) -
// minimum dmin, (q - 32) (scale d), F8 q scale; of INT8 q scale, but activations are int8 too, with a scale per token, and the sum of
// the products of whole numbers is multiplied by both scales. Layouts in files: github.com/ggml-org/ggml, ggml-common.h.
#pragma once
#include <stdbool.h>
#include "worker/engine/cpu/kernels.h"
#include "worker/model/dtype.h"

struct form {
    uint32_t block;       // elements of a row in a block
    uint32_t panel_bytes; // of a block of 16 rows
    uint32_t panel_head;  // bytes before the first block
    uint32_t file_head;   // of a row in a file: bytes before its first block
    uint32_t file_bytes;  // of a block of one row in a file; 0: not a quantised form
    // One row's block into its lane of a panel's block; and as floats. Quantised forms only.
    void (*pack)(const uint8_t *block, uint32_t lane, uint8_t *panel);
    void (*floats)(const uint8_t *block, float *out);
    void (*pack_head)(const uint8_t *row, uint32_t k, uint32_t lane, uint8_t *panel); // or NULL
};
extern const struct form forms[FORM_COUNT];

// The form in which a matrix of this type is kept, the type being one that the engine reads.
enum weight_form form_of(enum dtype dtype);
// Bytes of a panel of k columns; a last block that k does not fill is there whole.
static inline uint64_t form_panel_bytes(enum weight_form form, uint64_t k) {
    return forms[form].panel_head + (k + forms[form].block - 1) / forms[form].block * forms[form].panel_bytes;
}
