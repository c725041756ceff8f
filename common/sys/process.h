// What every program of Shoal does around its start: configuration on request, log, limits, random numbers.
#pragma once
#include "common/sys/config.h"

#include <stdint.h>

// Loads the file (NULL: the defaults) into *c. Returns -1 to go on, else the exit code: 2 after printing what is wrong with
// the file, 0 after --check-config or --print-config has been answered on stdout.
int process_config(struct cluster_config *c, const char *path, bool check, bool print);
// Opens the log, ignores SIGPIPE, raises the limit of open files to what is allowed. level: NULL = the configuration's.
void process_start(const char *program, const char *name, const char *level, const struct cluster_config *c);
uint64_t process_random(void); // 64 random bits from the operating system, never 0
