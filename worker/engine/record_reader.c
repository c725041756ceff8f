#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/engine/record.h"

struct record_reader {
    FILE *file;
    const char *path;
    struct record_head head;
    struct record_frame frame;
    void *payload;
    size_t capacity;
};

static err_id check_head(const struct record_reader *r, struct error *e) {
    const struct record_head *h = &r->head;
    if (memcmp(h->magic, "SHOALREC", 8) != 0)
        return error_set(e, ERR_INVALID_ARGUMENT, "%.300s is not a recording", r->path);
    if (h->version != RECORD_VERSION || h->head_bytes != sizeof *h) {
        return error_set(e, ERR_INVALID_ARGUMENT, "%.300s is a recording of version %u, this program reads %d", r->path,
                         h->version, RECORD_VERSION);
    }
    bool ended = memchr(h->device, 0, sizeof h->device) != NULL && memchr(h->model, 0, sizeof h->model) != NULL &&
                 memchr(h->fingerprint, 0, sizeof h->fingerprint) != NULL;
    if (!ended || h->mock.n_crash > ENGINE_MOCK_CRASH_MAX) {
        return error_set(e, ERR_INVALID_ARGUMENT, "the head of %.300s is damaged", r->path);
    }
    return ERR_NONE;
}

err_id record_reader_open(const char *path, struct record_reader **reader, const struct record_head **head,
                          struct error *e) {
    struct record_reader *r = xcalloc(1, sizeof *r);
    r->path = path;
    r->file = fopen(path, "rbe");
    err_id id = ERR_NONE;
    if (r->file == NULL) id = error_set(e, ERR_NOT_FOUND, "%.300s can't be read: %m", path);
    if (id == ERR_NONE && fread(&r->head, sizeof r->head, 1, r->file) != 1) {
        id = error_set(e, ERR_INVALID_ARGUMENT, "%.300s is not a recording: it is too short", path);
    }
    if (id == ERR_NONE) id = check_head(r, e);
    if (id != ERR_NONE) {
        record_reader_close(&r);
        return id;
    }
    *reader = r;
    *head = &r->head;
    return ERR_NONE;
}

err_id record_reader_next(struct record_reader *r, const struct record_frame **frame, const void **payload,
                          struct error *e) {
    *frame = NULL;
    size_t n = fread(&r->frame, 1, sizeof r->frame, r->file);
    if (n == 0) return ERR_NONE;
    size_t bytes = (r->frame.bytes + (size_t)7) / 8 * 8;
    if (n < sizeof r->frame || r->frame.bytes > RECORD_FRAME_MAX) {
        return error_set(e, ERR_INVALID_ARGUMENT, "%.300s is damaged or cut off", r->path);
    }
    if (bytes > r->capacity) {
        free(r->payload);
        r->payload = xmalloc(bytes);
        r->capacity = bytes;
    }
    if (bytes > 0 && fread(r->payload, 1, bytes, r->file) != bytes) {
        return error_set(e, ERR_INVALID_ARGUMENT, "%.300s is cut off", r->path);
    }
    *frame = &r->frame;
    *payload = r->payload;
    return ERR_NONE;
}

void record_reader_close(struct record_reader **reader) {
    if (*reader == NULL) return;
    if ((*reader)->file != NULL) fclose((*reader)->file);
    free((*reader)->payload);
    free(*reader);
    *reader = NULL;
}
