#include "worker/checkpoint/internal.h"

#include "common/base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ID_SIZE = CHECKPOINT_ID_SIZE, FILE_NAME_SIZE = CHECKPOINT_NAME_SIZE, PATH_SIZE = CHECKPOINT_PATH_SIZE };
#define ID_FILE    "store-id"
#define TMP_SUFFIX ".tmp"

static void random_hex(char *out, size_t bytes) {
    uint8_t raw[32];
    CHECK(bytes <= sizeof raw && getrandom(raw, bytes, 0) == (ssize_t)bytes);
    for (size_t i = 0; i < bytes; i++) snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

void checkpoint_draw_handle(char out[CHECKPOINT_HANDLE_SIZE]) { random_hex(out, 16); }

static bool is_hex(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) return false;
    return true;
}

bool checkpoint_handle_valid(const char *handle) {
    return strlen(handle) == CHECKPOINT_HANDLE_SIZE - 1 && is_hex(handle, CHECKPOINT_HANDLE_SIZE - 1);
}

// ---- single files ----

static int fault(const struct checkpoint_store *s, enum checkpoint_step step) {
    return s->options.fault ? s->options.fault(s->options.ctx, step) : 0;
}

// The step's failure: an injected one, or what the call said.
static bool went_wrong(const struct checkpoint_store *s, enum checkpoint_step step, bool ok) {
    int injected = fault(s, step);
    if (injected) errno = injected;
    return injected != 0 || !ok;
}

static err_id no_file(struct error *e, const char *doing, const char *path) {
    return error_set(e, ERR_SYSTEM, "%s %s: %s", doing, path, strerror(errno));
}

static void path_of(const struct checkpoint_store *s, const char *name, char out[PATH_SIZE]) {
    snprintf(out, PATH_SIZE, "%s/%s", s->dir, name);
}

static bool write_all(int fd, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static err_id sync_dir(const struct checkpoint_store *s, struct error *e) {
    int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return went_wrong(s, STEP_SYNC_DIR, ok) ? no_file(e, "cannot sync", s->dir) : ERR_NONE;
}

struct piece {
    const uint8_t *bytes;
    size_t len;
};

static err_id write_tmp(struct checkpoint_store *s, const char *tmp, const struct piece *pieces, uint32_t n,
                        struct error *e) {
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (went_wrong(s, STEP_OPEN, fd >= 0)) {
        if (fd >= 0) close(fd);
        return no_file(e, "cannot create", tmp);
    }
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < n && id == ERR_NONE; i++)
        if (went_wrong(s, STEP_WRITE, write_all(fd, pieces[i].bytes, pieces[i].len))) id = no_file(e, "cannot write", tmp);
    if (id == ERR_NONE && went_wrong(s, STEP_SYNC, fsync(fd) == 0)) id = no_file(e, "cannot sync", tmp);
    if (close(fd) != 0 && id == ERR_NONE) id = no_file(e, "cannot close", tmp);
    return id;
}

// The whole file or none: nothing is left of it when this fails.
static err_id put_file(struct checkpoint_store *s, const char *name, const struct piece *pieces, uint32_t n,
                       struct error *e) {
    char path[PATH_SIZE], tmp[PATH_SIZE + 8];
    path_of(s, name, path);
    snprintf(tmp, sizeof tmp, "%s" TMP_SUFFIX, path);
    TRY_GOTO(write_tmp(s, tmp, pieces, n, e), fail_tmp);
    if (went_wrong(s, STEP_RENAME, rename(tmp, path) == 0)) {
        no_file(e, "cannot rename", tmp);
        goto fail_renamed;
    }
    TRY_GOTO(sync_dir(s, e), fail_renamed);
    return ERR_NONE;
fail_renamed:
    unlink(path);
fail_tmp:
    unlink(tmp);
    return ERR_SYSTEM;
}

// *bytes is the caller's; NULL on failure.
static err_id get_file(struct checkpoint_store *s, const char *name, uint64_t bytes_max, uint8_t **bytes, size_t *len,
                       struct error *e) {
    char path[PATH_SIZE];
    struct stat st;
    path_of(s, name, path);
    *bytes = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return error_set(e, ERR_NOT_FOUND, "%s is missing", path);
    if (went_wrong(s, STEP_READ, fd >= 0 && fstat(fd, &st) == 0)) {
        if (fd >= 0) close(fd);
        return no_file(e, "cannot read", path);
    }
    err_id id = ERR_NONE;
    if ((uint64_t)st.st_size > bytes_max) {
        id = error_set(e, ERR_PROTOCOL, "%s has %lld bytes; at most %llu were expected", path, (long long)st.st_size,
                       (unsigned long long)bytes_max);
    } else {
        size_t have = 0;
        *bytes = xmalloc((size_t)st.st_size + 1);
        for (ssize_t n = 1; n > 0 && have<(size_t)st.st_size; have += n> 0 ? (size_t)n : 0) {
            n = read(fd, *bytes + have, (size_t)st.st_size - have);
            if (n < 0) id = no_file(e, "cannot read", path);
        }
        *len = have; // shorter than it was: the check of its contents says so
    }
    close(fd);
    if (id != ERR_NONE) free(*bytes), *bytes = NULL;
    return id;
}

// ---- the store ----

static err_id read_id(struct checkpoint_store *s, struct error *e) {
    uint8_t *bytes;
    size_t len = 0;
    TRY(get_file(s, ID_FILE, 64, &bytes, &len, e));
    bool valid = len >= ID_SIZE - 1 && is_hex((char *)bytes, ID_SIZE - 1);
    if (valid) memcpy(s->id, bytes, ID_SIZE - 1);
    free(bytes);
    return valid ? ERR_NONE : error_set(e, ERR_CONFIG, "%s/" ID_FILE " does not hold the id of a checkpoint store", s->dir);
}

// Who links its file first has drawn the id; all others read it.
static err_id draw_id(struct checkpoint_store *s, struct error *e) {
    char path[PATH_SIZE], mine[PATH_SIZE + 64], id[ID_SIZE + 1], nonce[17];
    random_hex(id, (ID_SIZE - 1) / 2);
    random_hex(nonce, 8);
    path_of(s, ID_FILE, path);
    snprintf(mine, sizeof mine, "%s.%s" TMP_SUFFIX, path, nonce);
    id[ID_SIZE - 1] = '\n';
    struct piece piece = {(const uint8_t *)id, ID_SIZE};
    err_id result = write_tmp(s, mine, &piece, 1, e);
    if (result == ERR_NONE && link(mine, path) != 0 && errno != EEXIST) result = no_file(e, "cannot link", path);
    unlink(mine);
    TRY(result);
    return sync_dir(s, e);
}

err_id checkpoint_store_open(const struct checkpoint_store_options *options, struct checkpoint_store **out,
                             struct error *e) {
    *out = NULL;
    if (strlen(options->dir) >= CHECKPOINT_DIR_SIZE)
        return error_set(e, ERR_CONFIG, "the checkpoint directory's path is longer than %d bytes", CHECKPOINT_DIR_SIZE - 1);
    struct checkpoint_store *s = xcalloc(1, sizeof *s);
    s->options = *options;
    snprintf(s->dir, sizeof s->dir, "%s", options->dir);
    err_id id = ERR_NONE;
    if (mkdir(s->dir, 0700) != 0 && errno != EEXIST) id = no_file(e, "cannot make the checkpoint directory", s->dir);
    if (id == ERR_NONE) id = read_id(s, e);
    if (id == ERR_NOT_FOUND) {
        id = draw_id(s, e);
        if (id == ERR_NONE) id = read_id(s, e);
    }
    if (id != ERR_NONE)
        free(s);
    else
        *out = s;
    return id;
}

void checkpoint_store_close(struct checkpoint_store **store) {
    free(*store);
    *store = NULL;
}

const char *checkpoint_store_id(const struct checkpoint_store *s) { return s->id; }

// ---- checkpoints ----

static void part_name(const char *handle, uint32_t stage, char out[FILE_NAME_SIZE]) {
    snprintf(out, FILE_NAME_SIZE, "%s.part%u", handle, stage);
}

static void manifest_name(const char *handle, char out[FILE_NAME_SIZE]) {
    snprintf(out, FILE_NAME_SIZE, "%s.manifest", handle);
}

static err_id check_handle(const char *handle, struct error *e) {
    return checkpoint_handle_valid(handle) ? ERR_NONE
                                           : error_set(e, ERR_PROTOCOL, "a checkpoint's handle has 32 hex digits");
}

err_id checkpoint_write_part(struct checkpoint_store *s, const char *handle, const struct sequence_state *state,
                             uint32_t part, const void *entries, struct error *e) {
    uint8_t head[STATE_PART_HEAD_BYTES];
    char name[FILE_NAME_SIZE];
    struct checkpoint_usage usage;
    CHECK(part < state->n_parts);
    TRY(check_handle(handle, e));
    TRY(checkpoint_expire(s, state_part_bytes(state, part) + sizeof head, &usage, e));
    state_part_head_encode(state, part, head);
    part_name(handle, state->parts[part].stage, name);
    struct piece pieces[] = {{head, sizeof head}, {entries, state_part_bytes(state, part)}};
    return put_file(s, name, pieces, ARRAY_LEN(pieces), e);
}

err_id checkpoint_write_manifest(struct checkpoint_store *s, const char *handle, const struct sequence_state *state,
                                 uint64_t *bytes, struct error *e) {
    char name[FILE_NAME_SIZE];
    TRY(check_handle(handle, e));
    size_t len = state_manifest_bytes(state);
    uint8_t *manifest = xmalloc(len);
    state_manifest_encode(state, manifest);
    manifest_name(handle, name);
    err_id id = put_file(s, name, &(struct piece){manifest, len}, 1, e);
    free(manifest);
    *bytes = len;
    for (uint32_t i = 0; i < state->n_parts; i++) *bytes += STATE_PART_HEAD_BYTES + state_part_bytes(state, i);
    return id;
}

err_id checkpoint_read_manifest(struct checkpoint_store *s, const char *handle, uint8_t **bytes,
                                struct sequence_state *state, struct error *e) {
    char name[FILE_NAME_SIZE];
    size_t len = 0;
    *bytes = NULL;
    TRY(check_handle(handle, e));
    manifest_name(handle, name);
    TRY(get_file(s, name, CHECKPOINT_MANIFEST_BYTES_MAX, bytes, &len, e));
    err_id id = state_manifest_decode(*bytes, len, state, e);
    if (id != ERR_NONE) free(*bytes), *bytes = NULL;
    return id;
}

err_id checkpoint_read_part(struct checkpoint_store *s, const char *handle, const struct sequence_state *state,
                            uint32_t part, uint8_t **bytes, struct error *e) {
    char name[FILE_NAME_SIZE];
    size_t len = 0;
    *bytes = NULL;
    TRY(check_handle(handle, e));
    CHECK(part < state->n_parts);
    part_name(handle, state->parts[part].stage, name);
    TRY(get_file(s, name, state_part_bytes(state, part) + STATE_PART_HEAD_BYTES, bytes, &len, e));
    err_id id = state_part_check(state, part, *bytes, len, e);
    if (id != ERR_NONE) free(*bytes), *bytes = NULL;
    return id;
}

static void drop_file(struct checkpoint_store *s, const char *name) {
    char path[PATH_SIZE];
    path_of(s, name, path);
    unlink(path);
}

void checkpoint_delete(struct checkpoint_store *s, const char *handle) {
    char name[FILE_NAME_SIZE];
    if (!checkpoint_handle_valid(handle)) return;
    manifest_name(handle, name); // first: without it there is no checkpoint
    drop_file(s, name);
    for (uint32_t i = 0; i < STATE_PARTS_MAX; i++) { // all: one that could not be written leaves a gap
        part_name(handle, i, name);
        drop_file(s, name);
    }
}
