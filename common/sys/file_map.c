// Design notes: a signal handler has no context, so the table of mappings is this file's own. The handler reads atomics and
// calls mmap, which puts a page of zeros in the place of the one that can't be had; the bare system call, since only few
// functions of the C library may be called from a handler, and because it is no write that other threads must be kept from:
// what they read of a file that was cut off is thrown away anyway.
#include "common/sys/file_map.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct guarded {
    atomic_uintptr_t begin, end; // begin 0: free; end is written first
    atomic_bool broken;
} table[FILE_MAPS_MAX];
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;
static atomic_uintptr_t page_bytes;

static struct guarded *find(uintptr_t address) {
    for (uint32_t i = 0; i < FILE_MAPS_MAX; i++) {
        uintptr_t begin = atomic_load(&table[i].begin);
        if (begin != 0 && address >= begin && address < atomic_load(&table[i].end)) return &table[i];
    }
    return NULL;
}

static bool zero_page(uintptr_t page) {
    int saved = errno;
    long at = syscall(SYS_mmap, page, atomic_load(&page_bytes), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0L);
    errno = saved;
    return at == (long)page;
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    struct guarded *g = find((uintptr_t)info->si_addr);
    if (g != NULL) {
        atomic_store(&g->broken, true);
        if (zero_page((uintptr_t)info->si_addr & ~(atomic_load(&page_bytes) - 1))) return;
    }
    signal(SIGBUS, SIG_DFL); // the instruction is run again, and ends the process
}

// At every opening: whoever took the signal in between, a debugging library say, has it no longer.
static void install(void) {
    atomic_store(&page_bytes, (uintptr_t)sysconf(_SC_PAGESIZE));
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

// False: too many are mapped.
static bool guard(struct file_map *m) {
    pthread_mutex_lock(&changing);
    install();
    uint32_t i = 0;
    while (i < FILE_MAPS_MAX && atomic_load(&table[i].begin) != 0) i++;
    if (i < FILE_MAPS_MAX) {
        atomic_store(&table[i].broken, false);
        atomic_store(&table[i].end, (uintptr_t)m->bytes + m->size);
        atomic_store(&table[i].begin, (uintptr_t)m->bytes);
        m->guard = i;
    }
    pthread_mutex_unlock(&changing);
    return i < FILE_MAPS_MAX;
}

err_id file_map_open(const char *path, struct file_map *m, struct error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        if (fd >= 0) close(fd);
        return error_set(e, ERR_MODEL_FILES, "%.300s is missing, empty or can't be read", path);
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return error_set(e, ERR_SYSTEM, "%.300s can't be mapped into memory: %m", path);
    *m = (struct file_map){p, (uint64_t)st.st_size, 0};
    if (guard(m)) return ERR_NONE;
    munmap(p, m->size);
    *m = (struct file_map){0};
    return error_set(e, ERR_SYSTEM, "%.300s can't be mapped: more than %d files are", path, FILE_MAPS_MAX);
}

void file_map_close(struct file_map *m) {
    if (m->bytes == NULL) return;
    atomic_store(&table[m->guard].begin, 0);
    munmap((void *)m->bytes, m->size);
    *m = (struct file_map){0};
}

bool file_map_whole(const struct file_map *m) { return m->bytes == NULL || !atomic_load(&table[m->guard].broken); }
