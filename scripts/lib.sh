# Shared by the scripts in this folder: where things are, how to speak, how to install what the distribution has.
# Sourced, never run. Every function that gives up prints one sentence and exits with 2.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 2

die() { printf '%s\n' "$*" >&2; exit 2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Debian's names of what Shoal needs. scripts/cmake/dependencies.cmake looks for the same.
PACKAGES_BUILD="gcc cmake ninja-build pkg-config libzmq3-dev libczmq-dev libsodium-dev libprotobuf-c-dev protobuf-c-compiler libuv1-dev
  libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev libhttp-parser-dev curl ca-certificates"
PACKAGES_TEST="$PACKAGES_BUILD g++ protobuf-compiler libcmocka-dev python3 python3-venv ccache procps openssl"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
  local p
  for p in $1; do
    dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || printf '%s ' "$p"
  done
}

# install_packages "<names>" <yes|ask>: installs what is missing, after saying so.
install_packages() {
  have dpkg-query || die "This script installs packages with apt; on another system install the equivalents of: $(echo $1)"
  local missing answer
  missing=$(missing_packages "$1")
  [ -n "$missing" ] || return 0
  printf 'To be installed from the distribution: %s\n' "$missing"
  if [ "$(id -u)" != 0 ] && ! have sudo; then
    die "Installing packages needs root: run as root once, or install sudo, or ask for: apt-get install $missing"
  fi
  if [ "$2" != yes ]; then
    [ -t 0 ] || die "Nobody can be asked here: run again with --yes to install them."
    read -r -p 'Go on? [Y/n] ' answer
    case "$answer" in "" | y | Y | yes) ;; *) die "Nothing was installed." ;; esac
  fi
  local log
  log=$(mktemp)
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 || true
  # shellcheck disable=SC2086
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die "apt could not install the packages (is there a network?); its last words are above, all of them in $log"
  fi
  rm -f "$log"
}

# build <preset> [target…]: configures and builds; on failure shows the end of the log. Folder: BUILD_DIR.
build() {
  local preset=$1 log
  shift
  case "$preset" in release) BUILD_DIR=$ROOT/build ;; *) BUILD_DIR=$ROOT/build-$preset ;; esac
  mkdir -p "$BUILD_DIR"
  log=$BUILD_DIR/build.log
  if ! { cmake --preset "$preset" $SHOAL_CMAKE_ARGS && cmake --build "$BUILD_DIR" "$@"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    die "The build failed; its last lines are above, all of them in $log"
  fi
}
