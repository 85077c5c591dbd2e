# shellcheck shell=bash
# A Docker engine for the tests, read by .ci/run: the one that answers already, else one from the
# distribution's packages, started here and stopped at the end. Where neither can be, the reason is
# printed, and the tests that need an engine are skipped.

ENGINE_START_S=60
ENGINE_STOP_S=40
IMAGES_S=900
engine_pid=
engine_log=

# Whether an engine can be used; else prints why not.
engine_answers() {
  .venv/bin/python - <<'PYTHON'
import sys
from harness.errors import LedgerquakeError
from harness.target.docker.endpoint import connect
try:
    connect().check_within_reach()
except LedgerquakeError as error:
    sys.exit(print(error.message) or 1)
PYTHON
}

# install PROGRAM PACKAGE...: with apt-get, unless the program is there.
install() {
  local program=$1
  shift
  command -v "$program" >/dev/null && return
  command -v apt-get >/dev/null || { echo "no $program, and no apt-get to install it with"; return 1; }
  echo "== installing $*"
  if ! { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    >>"$engine_log" 2>&1 </dev/null; then
    tail -n 5 "$engine_log"
    return 1
  fi
}

# In a session of its own, so that no signal meant for this script stops it before its time.
start_engine() {
  echo "== starting a Docker engine; its log: $engine_log"
  setsid dockerd >>"$engine_log" 2>&1 </dev/null &
  engine_pid=$!
  local give_up=$((SECONDS + ENGINE_START_S))
  until engine_answers >/dev/null; do
    if [ "$SECONDS" -ge "$give_up" ] || ! kill -0 "$engine_pid" 2>/dev/null; then
      tail -n 20 "$engine_log"
      return 1
    fi
    sleep 1
  done
}

# Only the one that was started here.
stop_engine() {
  [ -n "$engine_pid" ] || return 0
  kill "$engine_pid" 2>/dev/null || true
  local give_up=$((SECONDS + ENGINE_STOP_S))
  while kill -0 "$engine_pid" 2>/dev/null && [ "$SECONDS" -lt "$give_up" ]; do sleep 0.2; done
  kill -KILL "$engine_pid" 2>/dev/null || true
  engine_pid=
}

without_docker() {
  echo "== the tests that need Docker will be skipped: $1"
}

# Ends with 1, and the reason printed, where there can be none.
have_engine() {
  local why
  why=$(engine_answers) && return
  if [ "$(id -u)" -ne 0 ]; then
    without_docker "$why; only root can start an engine"
  elif ! install dockerd docker.io; then
    without_docker "docker.io cannot be installed"
  elif ! start_engine; then
    stop_engine
    without_docker "the engine does not start here"
  else
    return 0
  fi
  return 1
}

# The images of all targets, on a base from the distribution's packages: no image registry is needed.
build_images() {
  if [ "$(id -u)" -eq 0 ]; then
    install debootstrap debootstrap debian-archive-keyring gpgv || return
  fi
  echo "== building images"
  timeout "$IMAGES_S" .venv/bin/ledgerquake images build --offline
}

# For the tests of plain Compose: the plugin that is there, or the distribution's program.
have_compose() {
  docker compose version >/dev/null 2>&1 && return
  if [ "$(id -u)" -ne 0 ] || ! install docker-compose docker-compose; then
    echo "== the tests of plain Compose will be skipped: it is not here"
  fi
}

# With Docker every test that needs it must run; without it each is skipped and says why. Ends with 1 where
# the base could be made and the images on it could not: that is no fault of the machine.
prepare_docker() {
  export PATH="$PATH:/usr/sbin:/sbin" # where dockerd and debootstrap are
  engine_log=$(mktemp "${TMPDIR:-/tmp}/ledgerquake-engine.XXXXXX")
  have_engine || return 0
  have_compose
  if build_images; then
    export LEDGERQUAKE_TESTS_DOCKER=required
  elif docker image inspect ledgerquake/base:bookworm >/dev/null 2>&1; then
    echo "== the images cannot be built"
    return 1
  else
    without_docker "there is no base image"
  fi
}
