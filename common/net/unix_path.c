#include "common/net/unix_path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

err_id unix_path_claim(const char *path, struct error *e) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    if (lstat(path, &st) != 0) return ERR_NONE; // nothing there, or bind will say what is wrong
    if (!S_ISSOCK(st.st_mode)) return error_set(e, ERR_SYSTEM, "cannot listen on %s: it exists and is no socket", path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return error_set(e, ERR_SYSTEM, "cannot open a unix socket: %s", strerror(errno));
    int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
    int reason = rc == 0 ? 0 : errno;
    close(fd);
    if (reason != ECONNREFUSED) // connected, or a full backlog (EAGAIN): somebody listens
        return error_set(e, ERR_SYSTEM, "cannot listen on %s: %s", path,
                         reason == 0 || reason == EAGAIN ? "a running process listens there" : strerror(reason));
    if (unlink(path) != 0 && errno != ENOENT)
        return error_set(e, ERR_SYSTEM, "cannot remove the stale socket %s: %s", path, strerror(errno));
    return ERR_NONE;
}
