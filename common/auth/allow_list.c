#include "common/auth/allow_list.h"

#include "common/base/check.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_certificate(const char *file) {
    static const char ending[] = ".cert";
    size_t n = strlen(file), m = sizeof ending - 1;
    return file[0] != '.' && n > m && strcmp(file + n - m, ending) == 0;
}

static err_id add(struct allow_list *list, const char *folder, const char *file, struct error *e) {
    char path[PATH_MAX];
    if (list->n == ALLOW_MAX) return error_set(e, ERR_CONFIG, "%s has more than %d certificates", folder, ALLOW_MAX);
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path)
        return error_set(e, ERR_CONFIG, "the path %.80s… is too long", folder);
    list->entries = xrealloc(list->entries, (list->n + 1) * sizeof *list->entries);
    struct certificate *c = &list->entries[list->n];
    TRY(certificate_load(path, c, e));
    if (c->has_secret)
        return error_set(e, ERR_CONFIG, "%s holds a secret key; only public certificates belong into %s", path, folder);
    list->n++;
    return ERR_NONE;
}

static int by_key(const void *a, const void *b) {
    return memcmp(((const struct certificate *)a)->public_key, ((const struct certificate *)b)->public_key,
                  CERTIFICATE_KEY_BYTES);
}

static err_id check_twins(const struct allow_list *list, const char *folder, struct error *e) {
    for (uint32_t i = 1; i < list->n; i++)
        if (by_key(&list->entries[i - 1], &list->entries[i]) == 0)
            return error_set(e, ERR_CONFIG, "%s: the certificates %s and %s have the same key", folder,
                             list->entries[i - 1].name, list->entries[i].name);
    return ERR_NONE;
}

err_id allow_list_load(const char *folder, struct allow_list *out, struct error *e) {
    struct dirent *entry;
    err_id id = ERR_NONE;
    *out = (struct allow_list){0};
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return error_set(e, ERR_SYSTEM, "cannot read the folder of certificates %s: %s", folder, strerror(errno));
    while (id == ERR_NONE && (errno = 0, entry = readdir(dir)) != NULL)
        if (is_certificate(entry->d_name)) id = add(out, folder, entry->d_name, e);
    if (id == ERR_NONE && errno != 0) id = error_set(e, ERR_SYSTEM, "cannot read %s: %s", folder, strerror(errno));
    closedir(dir);
    if (out->n) qsort(out->entries, out->n, sizeof *out->entries, by_key);
    if (id == ERR_NONE) id = check_twins(out, folder, e);
    if (id != ERR_NONE) allow_list_free(out);
    return id;
}

void allow_list_free(struct allow_list *list) {
    free(list->entries);
    *list = (struct allow_list){0};
}

const struct certificate *allow_list_find(const struct allow_list *list, const uint8_t key[CERTIFICATE_KEY_BYTES]) {
    struct certificate wanted = {0};
    memcpy(wanted.public_key, key, sizeof wanted.public_key);
    return list->n ? bsearch(&wanted, list->entries, list->n, sizeof *list->entries, by_key) : NULL;
}
