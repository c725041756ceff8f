// Shared by the store's files and by nobody else.
#pragma once
#include "worker/checkpoint/store.h"

enum {
    CHECKPOINT_ID_SIZE = 17,
    CHECKPOINT_NAME_SIZE = 96,
    CHECKPOINT_PATH_SIZE = CHECKPOINT_DIR_SIZE + CHECKPOINT_NAME_SIZE
};

struct checkpoint_store {
    char dir[CHECKPOINT_DIR_SIZE];
    char id[CHECKPOINT_ID_SIZE];
    struct checkpoint_store_options options;
};
