# data_checks.sh - shared by the scripts that try gptdist-data. Source it with the build folder in $1: it sets
#   data    the program      source  the source folder      shared  the data beside it      failed  1 once a check failed
# and works in a scratch folder, removed at the end, where `out` and `err` are what the last command said.
set -u
build=$(realpath "${1:?usage: $0 BUILD_FOLDER}")
data=$build/bin/gptdist-data
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shared=$source/../shared/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
failed=0
fail() {
  echo "FAILED: $*"
  failed=1
}
check() { # check WHAT COMMAND...
  local what=$1
  shift
  "$@" >out 2>err || fail "$what (code $?): $(cat err)"
}
expect() { # expect CODE TEXT COMMAND...: the message is one line, and no work folder is left
  local code=$1 text=$2 found=0
  shift 2
  "$@" >out 2>err || found=$?
  [ $found = "$code" ] || fail "code $found, expected $code: $* ($(cat err))"
  grep -qF -- "$text" err || fail "\"$(cat err)\", expected \"$text\""
  [ "$(wc -l <err)" = 1 ] || fail "more than a line: $(cat err)"
  ls | grep -q 'tmp-' && fail "a work folder was left: $*"
}
has() { # has TEXT: what the last command printed holds it
  grep -qF -- "$1" out || fail "no $1 in $(cat out)"
}
