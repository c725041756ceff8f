// A fuzz target: one room fed with bytes from anywhere. tests/fuzz/targets holds one file for each; built with the preset
// `fuzz` each is a libFuzzer program, and everywhere else replay.c feeds it the corpus.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Never crashes, leaks, hangs or breaks what it checks, whatever the bytes are. Returns 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
