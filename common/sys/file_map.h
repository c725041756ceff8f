// A file read through memory. What is cut off of it while it is mapped, or can't be read because its disk fails, would end
// the process by SIGBUS; here it reads as zeros, and file_map_whole says afterwards that it did: read, then ask, then use.
//
// Any thread. SIGBUS for any other address ends the process as ever.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"

enum { FILE_MAPS_MAX = 8192 }; // at a time

struct file_map {
    const uint8_t *bytes; // NULL: not open
    uint64_t size;
    uint32_t guard;
};

// Maps a whole regular file, read-only. ERR_MODEL_FILES: it is missing, empty or can't be read.
err_id file_map_open(const char *path, struct file_map *map, struct error *e);
void file_map_close(struct file_map *map); // closed is fine
// Was all that was read so far really there?
bool file_map_whole(const struct file_map *map);
