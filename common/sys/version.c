#include "common/sys/version.h"

const char *shoal_version(void) { return SHOAL_VERSION; }

#ifdef __clang__
const char *shoal_compiler(void) { return "clang " __clang_version__; }
#else
const char *shoal_compiler(void) { return "gcc " __VERSION__; }
#endif
