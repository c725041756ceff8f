// The engine's slots: which sequence each one holds. Pure; nothing is allocated after slot_map_init().
#pragma once
#include <stdint.h>

struct sequence;

#define SLOT_NONE UINT32_MAX

struct slot_map {
    struct sequence **held; // [count] NULL: free
    uint32_t *free;         // a stack
    uint32_t count, n_free;
};

void slot_map_init(struct slot_map *m, uint32_t count);
void slot_map_fini(struct slot_map *m);
uint32_t slot_map_take(struct slot_map *m, struct sequence *seq); // SLOT_NONE: all are held
void slot_map_give(struct slot_map *m, uint32_t slot);
void slot_map_check(const struct slot_map *m);
