#include "common/auth/files.h"

#include "common/base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

err_id auth_file_read(const char *path, size_t max, struct buf *out, struct error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set(e, ERR_SYSTEM, "cannot read %s: %s", path, strerror(errno));
    err_id id = ERR_NONE;
    size_t begin = out->len;
    buf_str(out, "");
    while (id == ERR_NONE) {
        ssize_t n = read(fd, buf_reserve(out, 4096), 4096);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) id = error_set(e, ERR_SYSTEM, "cannot read %s: %s", path, strerror(errno));
        if (n <= 0) break;
        out->len += (size_t)n;
        if (out->len - begin > max) id = error_set(e, ERR_CONFIG, "%s: such a file has at most %zu bytes", path, max);
    }
    buf_str(out, ""); // the zero byte behind
    close(fd);
    return id;
}

static bool write_all(int fd, const struct buf *text) {
    for (size_t done = 0; done < text->len;) {
        ssize_t n = write(fd, text->data + done, text->len - done);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) done += (size_t)n;
    }
    return fsync(fd) == 0;
}

err_id auth_file_create(const char *path, const struct buf *text, mode_t mode, struct error *e) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST)
        return error_set(e, ERR_CONFIG, "%s is there already and is left as it is; choose another name, or move it away",
                         path);
    if (fd < 0) return error_set(e, ERR_SYSTEM, "cannot write %s: %s", path, strerror(errno));
    bool ok = fchmod(fd, mode) == 0 && write_all(fd, text); // whatever the umask took away
    int reason = errno;
    close(fd);
    if (ok) return ERR_NONE;
    unlink(path);
    return error_set(e, ERR_SYSTEM, "cannot write %s: %s", path, strerror(reason));
}

static void sync_folder(const char *path) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd); // the rename is done; a file system that can't sync folders has nothing more to offer
    close(fd);
}

err_id auth_file_replace(const char *path, const struct buf *text, mode_t mode, struct error *e) {
    char temporary[PATH_MAX];
    struct stat old;
    bool known = stat(path, &old) == 0;
    if (snprintf(temporary, sizeof temporary, "%s.new.%d", path, (int)getpid()) >= (int)sizeof temporary)
        return error_set(e, ERR_CONFIG, "the path %.80s… is too long", path);
    TRY(auth_file_create(temporary, text, known ? old.st_mode & 07777 : mode, e));
    if (known && chown(temporary, old.st_uid, old.st_gid) != 0 && errno != EPERM) goto fail;
    if (rename(temporary, path) != 0) goto fail;
    sync_folder(path);
    return ERR_NONE;
fail:
    error_set(e, ERR_SYSTEM, "cannot write %s: %s", path, strerror(errno));
    unlink(temporary);
    return ERR_SYSTEM;
}
