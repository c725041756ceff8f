// A follower's process: settings → model and stage → group, metrics → end. Loop thread. It serves no router and has no text.
#pragma once
#include "worker/main/host.h"

// Runs until SIGTERM or failure. Returns the exit code: 0 on SIGTERM, 1 the engine failed, 2 what another start would not
// heal.
int follower_run(const struct host_settings *settings);
