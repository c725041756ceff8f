// A follower's process: settings → model and stage → group, metrics → end. Loop thread. It serves no router and has no text.
#pragma once
#include "worker/main/host.h"

// SIGTERM is a notice: the leader moves the streams of the replica first, within the deadline; a second one ends at once.
// Runs until then or until failure. Returns the exit code: 0 on SIGTERM, 1 the engine failed, 2 what another start would not
// heal.
int follower_run(const struct host_settings *settings);
