// See the header: one block of words for all rows, because the steps that have masks have few rows without.
#include "worker/main/step_masks.h"

#include "common/base/check.h"
#include "worker/plan/plan.h"

#include <stdlib.h>

struct step_masks *step_masks_make(const void *plan, struct stream_text *const *users, uint32_t vocab) {
    struct plan_view v = plan_view(plan);
    uint32_t words = (vocab + 31) / 32;
    struct step_masks *masks = NULL;
    for (uint32_t i = 0; i < v.head->n_rows; i++) {
        struct stream_text *user = users[v.rows[i].slot];
        if (!plan_row_samples(&v.rows[i]) || user == NULL || !stream_text_is_bound(user)) continue;
        if (masks == NULL) {
            masks = xcalloc(1, sizeof *masks);
            masks->n_words = words;
            masks->at = xcalloc(v.head->n_rows, sizeof *masks->at);
            masks->words = xmalloc((size_t)v.head->n_rows * words * sizeof *masks->words);
        }
        uint32_t *mask = masks->words + (size_t)i * words;
        if (stream_text_mask(user, mask)) masks->at[i] = mask;
    }
    return masks;
}

bool step_masks_empty(const struct step_masks *masks, uint32_t row) {
    if (masks == NULL || masks->at[row] == NULL) return false;
    for (uint32_t i = 0; i < masks->n_words; i++)
        if (masks->at[row][i] != 0) return false;
    return true;
}

void step_masks_free(struct step_masks *masks) {
    if (masks == NULL) return;
    free(masks->at);
    free(masks->words);
    free(masks);
}
