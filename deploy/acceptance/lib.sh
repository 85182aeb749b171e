# shellcheck shell=bash
# What the acceptance suites share: counting checks, finding tools, cleaning up. Sourced by each `run`.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Scripts that bring up an engine or a cluster on a bare machine; they lie beside the checkout.
SHARED_TOOLS=${SHARED_TOOLS:-$ROOT/../shared/tools}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/evenkeel
# Of the images that the suites build. Never `latest`: Kubernetes would pull that.
TAG=acceptance
WORK=$(mktemp -d)
PASSED=0
FAILED=0

say() { printf '%s\n' "$*"; }
heading() { printf '\n== %s\n' "$*"; }
pass() { PASSED=$((PASSED + 1)); printf 'ok    %s\n' "$*"; }
fail() { FAILED=$((FAILED + 1)); printf 'FAIL  %s\n' "$*"; }
# A suite that cannot run has failed: nothing was shown.
give_up() { fail "$*"; exit 1; }

# check NAME COMMAND...: passes if the command succeeds; shows its output if not.
check() {
  local name=$1
  shift
  if "$@" >"$WORK/check.log" 2>&1; then
    pass "$name"
  else
    fail "$name"
    tail -n 40 "$WORK/check.log" | sed 's/^/      /'
  fi
}

# refuse NAME COMMAND...: passes if the command fails.
refuse() {
  local name=$1
  shift
  if "$@" >"$WORK/check.log" 2>&1; then fail "$name"; else pass "$name"; fi
}

# equal NAME EXPECTED ACTUAL
equal() {
  if [[ $2 == "$3" ]]; then pass "$1: $3"; else fail "$1: expected $2, got $3"; fi
}

# within NAME LOW ACTUAL HIGH, for whole numbers
within() {
  if [[ $3 =~ ^-?[0-9]+$ ]] && (($2 <= $3 && $3 <= $4)); then
    pass "$1: $3"
  else
    fail "$1: expected $2 to $4, got ${3:-nothing}"
  fi
}

# until_true SECONDS COMMAND...: waits for a condition; fails when the time is over.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

# free_ports N: below the range from which the kernel takes ports for outgoing connections, so
# that nothing takes one between here and its use.
free_ports() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys
free = []
while len(free) < int(sys.argv[1]):
    port = random.randrange(10_000, 30_000)
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        continue
    free.append(port)
print(*free)
PYTHON
}

now_ms() { date +%s%3N; }

# Each suite defines `cleanup`, for what it made itself.
finish() {
  local code=$?
  trap - EXIT INT TERM
  set +e
  cleanup
  rm -rf "$WORK"
  # An error inside the script is no pass, whatever was counted until then.
  ((code == 0 || FAILED > 0)) || { FAILED=1; say "FAIL  the suite ended early with code $code"; }
  printf '\n%d passed, %d failed\n' "$PASSED" "$FAILED"
  exit $((FAILED > 0))
}
trap finish EXIT
trap 'exit 130' INT TERM

# need COMMAND PACKAGE: from Debian's packages, if it is not there. Services are not started.
need() {
  command -v "$1" >/dev/null && return
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq \
    --no-install-recommends "$2" >/dev/null 2>&1 || { apt-get update -qq &&
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq \
      --no-install-recommends "$2" >/dev/null; }
  command -v "$1" >/dev/null || give_up "$1 is needed, and package $2 did not bring it"
}

# The Python-packaged tools, in an environment of their own that is made once.
python_tools() {
  local wanted=$ROOT/deploy/acceptance/requirements.txt tools=$CACHE/tools
  if ! cmp -s "$wanted" "$tools/requirements.txt"; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q -r "$wanted"
    cp "$wanted" "$tools/requirements.txt"
  fi
  PATH=$tools/bin:$PATH
}

shared_tool() {
  [[ -x $SHARED_TOOLS/$1 ]] || give_up "$SHARED_TOOLS/$1 is missing; set SHARED_TOOLS to the folder that has it"
  "$SHARED_TOOLS/$1" "${@:2}"
}

# The engine, the base images, and our images under $TAG. REUSE_IMAGES=1 takes those of the last
# run, for work on a suite itself.
images() {
  shared_tool docker-up >/dev/null
  shared_tool base-images >/dev/null
  [[ -z ${REUSE_IMAGES:-} ]] || return 0
  local target start
  start=$(now_ms)
  for target in proxy server dashboard load; do
    docker build --target "$target" --tag "evenkeel-$target:$TAG" \
      --build-arg REVISION="$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)" \
      --build-arg CREATED="$(date -u +%FT%TZ)" "$ROOT" >"$WORK/build.log" 2>&1 ||
      { tail -n 40 "$WORK/build.log"; give_up "the image evenkeel-$target does not build"; }
  done
  say "images built in $((($(now_ms) - start) / 1000)) s:" \
    "$(docker image ls --filter "reference=evenkeel-*:$TAG" --format '{{.Repository}} {{.Size}}' | sort | paste -sd,)"
}

# clean NAME JSON_FILE: a load of which every request was answered with success.
clean() {
  local text
  text=$(jq -r '"\(.sent) sent, \(.ok) ok, \(.not_ok) other answers, \(.failed) failed, p99 \(.latency_ms.p99) ms, longest pause \(.largest_gap_ms) ms"' "$2" 2>/dev/null) ||
    { fail "$1: the load gave no result"; tail -n 5 "$2" "${2%.json}.err" 2>/dev/null; return; }
  if jq -e '.failed == 0 and .not_ok == 0 and .ok > 0' "$2" >/dev/null; then
    pass "$1: $text"
  else
    fail "$1: $text"
    jq -c '{statuses, failures, examples}' "$2" | sed 's/^/      /'
  fi
}
