// The fingerprint of what a worker serves: streams never cross unequal ones.
#pragma once
#include "common/base/limits.h"

// Covers what the engine says of weights and numerics (engine), and the files in the model's folder that make its text
// (path; NULL: none). Reads them.
void worker_fingerprint(const char *engine, const char *path, char out[FINGERPRINT_SIZE]);
