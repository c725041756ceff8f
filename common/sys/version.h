// The version of this build.
#pragma once
const char *shoal_version(void);  // "0.1.0"
const char *shoal_compiler(void); // "gcc 12.2.0"
