// The checkpoint store in a temporary directory: complete or not there, whatever fails; damage is found; expiry by age and
// quota.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/check.h"
#include "common/base/hash.h"
#include "worker/checkpoint/store.h"

enum { TOKENS = 50, COMPUTED = 49, PER_TOKEN = 64, PART_BYTES = COMPUTED * PER_TOKEN };

struct broken { // the n-th step fails
    int n, seen, error;
    bool only;
    enum checkpoint_step which;
};

static int fail_nth(void *ctx, enum checkpoint_step step) {
    struct broken *b = ctx;
    if (b->only && step != b->which) return 0;
    return ++b->seen == b->n ? b->error : 0;
}

struct world {
    char dir[64];
    struct broken broken;
    struct checkpoint_store_options options;
    struct checkpoint_store *store;
    struct sequence_state state;
    uint32_t tokens[TOKENS];
    uint8_t entries[2][PART_BYTES];
};

static void open_store(struct world *w) {
    struct error e = {0};
    w->options.dir = w->dir;
    w->options.fault = fail_nth;
    w->options.ctx = &w->broken;
    if (checkpoint_store_open(&w->options, &w->store, &e) != ERR_NONE) fail_msg("%s", e.text);
}

static void begin(struct world *w) {
    *w = (struct world){.state = {.n_tokens = TOKENS, .n_prompt = 40, .n_computed = COMPUTED, .n_parts = 2}};
    snprintf(w->dir, sizeof w->dir, "/tmp/shoal-store-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    strcpy(w->state.fingerprint, "f00d");
    w->state.key.request.bytes[0] = 1;
    w->state.tokens = w->tokens;
    for (uint32_t i = 0; i < TOKENS; i++) w->tokens[i] = i * 3;
    for (uint32_t p = 0; p < 2; p++) {
        for (uint32_t i = 0; i < PART_BYTES; i++) w->entries[p][i] = (uint8_t)hash_mix(i + p * 99);
        w->state.parts[p] = (struct state_part){p, p, p + 1, PER_TOKEN, hash_bytes(w->entries[p], PART_BYTES, 0)};
    }
    open_store(w);
}

static uint32_t count_files(const struct world *w, const char *containing) {
    uint32_t n = 0;
    DIR *d = opendir(w->dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d)) != NULL;) n += f->d_name[0] != '.' && strstr(f->d_name, containing) != NULL;
    closedir(d);
    return n;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) { return remove(path); }

static void finish(struct world *w) {
    checkpoint_store_close(&w->store);
    assert_int_equal(nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static err_id write_all(struct world *w, const char *handle, uint64_t *bytes, struct error *e) {
    for (uint32_t p = 0; p < 2; p++) TRY(checkpoint_write_part(w->store, handle, &w->state, p, w->entries[p], e));
    return checkpoint_write_manifest(w->store, handle, &w->state, bytes, e);
}

// The whole way of the one who reads. ERR_NONE: everything was there and right.
static err_id read_all(struct world *w, const char *handle, struct error *e) {
    struct sequence_state got;
    uint8_t *manifest, *part;
    TRY(checkpoint_read_manifest(w->store, handle, &manifest, &got, e));
    assert_memory_equal(got.tokens, w->tokens, sizeof w->tokens);
    err_id id = ERR_NONE;
    for (uint32_t p = 0; p < 2 && id == ERR_NONE; p++) {
        id = checkpoint_read_part(w->store, handle, &got, p, &part, e);
        if (id == ERR_NONE) assert_memory_equal(part + STATE_PART_HEAD_BYTES, w->entries[p], PART_BYTES);
        free(part);
    }
    free(manifest);
    return id;
}

static void what_was_written_is_read_and_deleted_again(void **state) {
    struct world w;
    char handle[CHECKPOINT_HANDLE_SIZE];
    uint64_t bytes = 0;
    struct error e = {0};
    begin(&w);
    checkpoint_draw_handle(handle);
    assert_true(checkpoint_handle_valid(handle));
    assert_int_equal(write_all(&w, handle, &bytes, &e), ERR_NONE);
    assert_true(bytes > 2 * PART_BYTES);
    assert_int_equal(count_files(&w, handle), 3);
    assert_int_equal(count_files(&w, ".tmp"), 0);
    assert_int_equal(read_all(&w, handle, &e), ERR_NONE);
    checkpoint_delete(w.store, handle);
    assert_int_equal(count_files(&w, handle), 0);
    assert_int_equal(read_all(&w, handle, &e), ERR_NOT_FOUND);
    checkpoint_delete(w.store, handle);
    finish(&w);
}

static void all_who_see_the_directory_say_the_same_id(void **state) {
    struct world w;
    begin(&w);
    struct checkpoint_store *other;
    assert_int_equal(checkpoint_store_open(&w.options, &other, NULL), ERR_NONE);
    assert_int_equal(strlen(checkpoint_store_id(other)), 16);
    assert_string_equal(checkpoint_store_id(other), checkpoint_store_id(w.store));
    checkpoint_store_close(&other);
    char path[128];
    snprintf(path, sizeof path, "%s/store-id", w.dir);
    assert_int_equal(truncate(path, 5), 0);
    struct error e = {0};
    assert_int_equal(checkpoint_store_open(&w.options, &other, &e), ERR_CONFIG);
    assert_null(other);
    finish(&w);
}

static void whichever_step_fails_nothing_is_left_that_looks_whole(void **state) {
    struct world w;
    begin(&w);
    bool done = false;
    for (int n = 1; !done; n++) {
        char handle[CHECKPOINT_HANDLE_SIZE];
        struct error e = {0};
        uint64_t bytes;
        checkpoint_draw_handle(handle);
        w.broken = (struct broken){.n = n, .error = n % 2 ? ENOSPC : EIO};
        done = write_all(&w, handle, &bytes, &e) == ERR_NONE;
        w.broken = (struct broken){0};
        if (done) break;
        assert_int_equal(e.id, ERR_SYSTEM);
        assert_non_null(strstr(e.text, n % 2 ? "No space left" : "Input/output error"));
        assert_int_equal(count_files(&w, ".tmp"), 0);
        assert_int_equal(count_files(&w, "manifest"), 0);
        assert_int_equal(read_all(&w, handle, &e), ERR_NOT_FOUND);
        checkpoint_delete(w.store, handle);
        assert_int_equal(count_files(&w, handle), 0);
        assert_true(n < 100);
    }
    finish(&w);
}

static void edit(struct world *w, const char *handle, const char *suffix, long flip_at, long cut_to) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s.%s", w->dir, handle, suffix);
    if (cut_to >= 0) assert_int_equal(truncate(path, cut_to), 0);
    if (flip_at < 0) return;
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0 && pread(fd, &byte, 1, flip_at) == 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, flip_at), 1);
    close(fd);
}

static void damage_is_found_and_named(void **state) {
    struct {
        const char *suffix;
        long flip_at, cut_to;
        err_id id;
    } damages[] = {
        {"part0", 3, -1, ERR_PROTOCOL},     {"part1", STATE_PART_HEAD_BYTES + 1000, -1, ERR_PROTOCOL},
        {"part1", -1, 500, ERR_PROTOCOL},   {"part0", -1, 0, ERR_PROTOCOL},
        {"manifest", 8, -1, ERR_PROTOCOL},  {"manifest", 200, -1, ERR_PROTOCOL},
        {"manifest", -1, 77, ERR_PROTOCOL}, {"manifest", -1, 0, ERR_PROTOCOL},
    };
    struct world w;
    begin(&w);
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        char handle[CHECKPOINT_HANDLE_SIZE];
        struct error e = {0};
        uint64_t bytes;
        checkpoint_draw_handle(handle);
        assert_int_equal(write_all(&w, handle, &bytes, &e), ERR_NONE);
        edit(&w, handle, damages[i].suffix, damages[i].flip_at, damages[i].cut_to);
        assert_int_equal(read_all(&w, handle, &e), damages[i].id);
        assert_string_not_equal(e.text, "");
    }
    char handle[CHECKPOINT_HANDLE_SIZE], path[160];
    uint64_t bytes;
    struct error e = {0};
    checkpoint_draw_handle(handle);
    assert_int_equal(write_all(&w, handle, &bytes, &e), ERR_NONE);
    snprintf(path, sizeof path, "%s/%s.part1", w.dir, handle);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(read_all(&w, handle, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "part1 is missing"));
    w.broken = (struct broken){.n = 1, .error = EIO, .only = true, .which = STEP_READ};
    assert_int_equal(read_all(&w, handle, &e), ERR_SYSTEM);
    finish(&w);
}

static void a_handle_that_is_none_is_never_made_a_path(void **state) {
    struct world w;
    struct error e = {0};
    struct sequence_state got;
    uint8_t *bytes;
    uint64_t n;
    begin(&w);
    const char *handles[] = {"",
                             "../../etc/passwd",
                             "0123456789abcdef0123456789abcde",
                             "0123456789abcdef0123456789abcdeF",
                             "0123456789abcdef0123456789abcdef0",
                             "/123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
        assert_int_equal(checkpoint_read_manifest(w.store, handles[i], &bytes, &got, &e), ERR_PROTOCOL);
        assert_int_equal(write_all(&w, handles[i], &n, &e), ERR_PROTOCOL);
        checkpoint_delete(w.store, handles[i]);
    }
    assert_int_equal(count_files(&w, ""), 1); // its id
    finish(&w);
}

// The files of a handle become `seconds` older.
static void age(const struct world *w, const char *handle, int seconds) {
    static const char *const suffixes[] = {"part0", "part1", "manifest"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        char path[160];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s.%s", w->dir, handle, suffixes[i]);
        if (stat(path, &st) != 0) continue;
        struct timespec times[2] = {st.st_atim, st.st_mtim};
        times[1].tv_sec -= seconds;
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
}

static void files_go_by_age_and_by_quota_and_never_under_their_lease(void **state) {
    struct world w;
    char handles[4][CHECKPOINT_HANDLE_SIZE];
    struct checkpoint_usage usage;
    struct error e = {0};
    uint64_t bytes = 0;
    begin(&w);
    checkpoint_store_close(&w.store);
    w.options.lease_ms = 60000;
    w.options.age_max_ms = 3600000;
    open_store(&w);
    for (int i = 0; i < 4; i++) {
        checkpoint_draw_handle(handles[i]);
        assert_int_equal(write_all(&w, handles[i], &bytes, &e), ERR_NONE);
    }
    age(&w, handles[0], 4000);
    age(&w, handles[1], 200);
    age(&w, handles[2], 100);
    assert_int_equal(checkpoint_expire(w.store, 0, &usage, &e), ERR_NONE);
    assert_int_equal(usage.expired, 3);
    assert_int_equal(usage.files, 9);
    assert_int_equal(usage.bytes, 3 * bytes);
    assert_int_equal(read_all(&w, handles[0], &e), ERR_NOT_FOUND);
    checkpoint_store_close(&w.store);
    w.options.quota_bytes = 3 * bytes + bytes / 2; // room for one more if the oldest goes
    open_store(&w);
    char more[CHECKPOINT_HANDLE_SIZE];
    checkpoint_draw_handle(more);
    assert_int_equal(write_all(&w, more, &bytes, &e), ERR_NONE);
    assert_int_equal(read_all(&w, handles[1], &e), ERR_NOT_FOUND);
    assert_int_equal(read_all(&w, handles[2], &e), ERR_NONE);
    checkpoint_draw_handle(more);
    assert_int_equal(write_all(&w, more, &bytes, &e), ERR_NONE); // handles[2] goes
    checkpoint_draw_handle(more);
    e = (struct error){0};
    assert_int_equal(write_all(&w, more, &bytes, &e), ERR_OVERLOADED); // all that is left is leased
    assert_non_null(strstr(e.text, "is full"));
    assert_int_equal(read_all(&w, handles[3], &e), ERR_NONE);
    finish(&w);
}

static void what_is_not_a_checkpoint_is_left_alone(void **state) {
    struct world w;
    char path[128];
    struct checkpoint_usage usage;
    begin(&w);
    checkpoint_store_close(&w.store);
    w.options.quota_bytes = 1;
    w.options.age_max_ms = 1;
    open_store(&w);
    snprintf(path, sizeof path, "%s/notes-of-an-operator-0123456789abcdef.txt", w.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("do not delete", f);
    fclose(f);
    checkpoint_expire(w.store, 0, &usage, NULL);
    assert_int_equal(usage.files, 0);
    assert_int_equal(count_files(&w, "notes"), 1);
    finish(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_and_deleted_again),
        cmocka_unit_test(all_who_see_the_directory_say_the_same_id),
        cmocka_unit_test(whichever_step_fails_nothing_is_left_that_looks_whole),
        cmocka_unit_test(damage_is_found_and_named),
        cmocka_unit_test(a_handle_that_is_none_is_never_made_a_path),
        cmocka_unit_test(files_go_by_age_and_by_quota_and_never_under_their_lease),
        cmocka_unit_test(what_is_not_a_checkpoint_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
