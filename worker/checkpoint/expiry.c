// What is deleted when: by age, and for want of room the oldest first, never under its lease. All files of a checkpoint
// (also unfinished ones) share the time of the newest. Workers on several machines may do this at once to one directory:
// a file that somebody else has just deleted is fine.
#include "worker/checkpoint/internal.h"

#include "common/base/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct file {
    char name[CHECKPOINT_NAME_SIZE];
    int64_t written_ms;
    uint64_t bytes;
};

struct listing {
    struct file *files; // owned
    size_t n, capacity;
};

struct group { // the files of one checkpoint: files[first, first + n)
    size_t first, n;
    int64_t written_ms;
    uint64_t bytes;
};

static int64_t to_ms(struct timespec t) { return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000; }

static bool is_ours(const char *name) {
    char handle[CHECKPOINT_HANDLE_SIZE];
    size_t len = strlen(name);
    if (len < CHECKPOINT_HANDLE_SIZE || len >= CHECKPOINT_NAME_SIZE || name[CHECKPOINT_HANDLE_SIZE - 1] != '.') return false;
    memcpy(handle, name, sizeof handle - 1);
    handle[sizeof handle - 1] = '\0';
    return checkpoint_handle_valid(handle);
}

static void note(struct listing *l, const char *name, const struct stat *st) {
    if (l->n == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 64;
        l->files = xrealloc(l->files, l->capacity * sizeof *l->files);
    }
    struct file *f = &l->files[l->n++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->written_ms = to_ms(st->st_mtim);
    f->bytes = (uint64_t)st->st_size;
}

static err_id list(const struct checkpoint_store *s, struct listing *l, struct error *e) {
    DIR *d = opendir(s->dir);
    if (d == NULL) return error_set(e, ERR_SYSTEM, "cannot list %s: %s", s->dir, strerror(errno));
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        struct stat st;
        if (is_ours(entry->d_name) && fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            note(l, entry->d_name, &st);
    }
    closedir(d);
    return ERR_NONE;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static int by_age(const void *a, const void *b) {
    const struct group *x = a, *y = b;
    return (x->written_ms > y->written_ms) - (x->written_ms < y->written_ms);
}

// Returns how many groups; *groups is the caller's.
static size_t group_files(struct listing *l, struct group **groups) {
    size_t n = 0;
    *groups = xcalloc(l->n ? l->n : 1, sizeof **groups);
    if (l->n > 0) qsort(l->files, l->n, sizeof *l->files, by_name);
    for (size_t i = 0; i < l->n; i++) {
        const struct file *f = &l->files[i];
        bool more = i > 0 && strncmp(f->name, l->files[i - 1].name, CHECKPOINT_HANDLE_SIZE - 1) == 0;
        if (!more) (*groups)[n++] = (struct group){.first = i, .written_ms = f->written_ms};
        struct group *g = &(*groups)[n - 1];
        g->n++;
        g->bytes += f->bytes;
        if (f->written_ms > g->written_ms) g->written_ms = f->written_ms;
    }
    qsort(*groups, n, sizeof **groups, by_age);
    return n;
}

static void delete_group(const struct checkpoint_store *s, const struct listing *l, const struct group *g,
                         struct checkpoint_usage *usage) {
    for (size_t i = 0; i < g->n; i++) {
        char path[CHECKPOINT_PATH_SIZE];
        snprintf(path, sizeof path, "%s/%s", s->dir, l->files[g->first + i].name); // the manifest is first by name
        unlink(path);
    }
    usage->bytes -= g->bytes;
    usage->files -= (uint32_t)g->n;
    usage->expired += (uint32_t)g->n;
}

err_id checkpoint_expire(struct checkpoint_store *s, uint64_t room, struct checkpoint_usage *usage, struct error *e) {
    const struct checkpoint_store_options *o = &s->options;
    struct listing l = {0};
    struct group *groups;
    struct timespec now;
    *usage = (struct checkpoint_usage){0};
    err_id id = list(s, &l, e);
    size_t n = group_files(&l, &groups);
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < n; i++) usage->bytes += groups[i].bytes, usage->files += (uint32_t)groups[i].n;
    for (size_t i = 0; i < n; i++) { // the oldest first
        int64_t age_ms = to_ms(now) - groups[i].written_ms;
        bool leased = age_ms < (int64_t)o->lease_ms;
        bool old = o->age_max_ms > 0 && age_ms > (int64_t)o->age_max_ms;
        bool cramped = o->quota_bytes > 0 && usage->bytes + room > o->quota_bytes;
        if (!leased && (old || cramped)) delete_group(s, &l, &groups[i], usage);
    }
    if (id == ERR_NONE && o->quota_bytes > 0 && usage->bytes + room > o->quota_bytes)
        id = error_set(e, ERR_OVERLOADED,
                       "the checkpoint store %s is full: %llu bytes of %llu are kept or leased, %llu are needed", s->dir,
                       (unsigned long long)usage->bytes, (unsigned long long)o->quota_bytes, (unsigned long long)room);
    free(groups);
    free(l.files);
    return id;
}

size_t checkpoint_list(struct checkpoint_store *s, const char *starts, char (*handles)[CHECKPOINT_HANDLE_SIZE], size_t max) {
    struct listing l = {0};
    struct group *groups;
    size_t n = 0;
    list(s, &l, NULL);
    for (size_t i = group_files(&l, &groups); i > 0 && n < max; i--) {
        const char *name = l.files[groups[i - 1].first].name; // the manifest is first by name
        if (strncmp(name, starts, strlen(starts)) != 0 || strstr(name, ".manifest") == NULL) continue;
        snprintf(handles[n++], CHECKPOINT_HANDLE_SIZE, "%.*s", CHECKPOINT_HANDLE_SIZE - 1, name);
    }
    free(groups);
    free(l.files);
    return n;
}
