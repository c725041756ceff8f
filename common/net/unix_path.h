// Takes the path of a unix socket that is about to be bound: a socket file that nobody listens on (its process was killed)
// is removed; one that a running process answers on, or a file of another kind, is an error with a sentence.
#pragma once
#include "common/base/error.h"

err_id unix_path_claim(const char *path, struct error *e);
