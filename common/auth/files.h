// Small files of keys: read whole, written whole. Private to common/auth.
#pragma once
#include "common/base/error.h"

#include <sys/types.h>

struct buf;

// Appends the file. ERR_SYSTEM when it can't be read; ERR_CONFIG when it has more than `max` bytes. out->data is a C string
// then, also when the file is empty.
err_id auth_file_read(const char *path, size_t max, struct buf *out, struct error *e);
// A new file that nobody had before; ERR_CONFIG when there is one, which is left as it is.
err_id auth_file_create(const char *path, const struct buf *text, mode_t mode, struct error *e);
// Temporary name, fsync, rename, fsync of the folder. An existing file's mode and (where allowed) owner are kept.
err_id auth_file_replace(const char *path, const struct buf *text, mode_t mode, struct error *e);
