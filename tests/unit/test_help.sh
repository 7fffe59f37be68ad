#!/usr/bin/env bash
# --help of every program: exit codes are there, what its usage line names is an option, every line fits 132 columns, and the
# README's table has the program.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
source=$(cd "$(dirname "$0")/../.." && pwd)
failed=0
fail() { echo "FAILED: $*"; failed=1; }

for path in "$bin"/gptdist-*; do
  [ -x "$path" ] && [ "${path%.so}" = "$path" ] || continue
  program=$(basename "$path")
  help=$("$path" --help 2>&1) || fail "$program --help left with $?"
  grep -q '^Exit codes: ' <<<"$help" || fail "$program --help: no exit codes"
  grep -q "^| \`$program\` |" "$source/README.md" || fail "README.md does not list $program"
  awk 'length > 132' <<<"$help" | grep . && fail "$program --help: a long line"
  usage=$(sed -n '/^usage:/,/^$/p' <<<"$help" | sed 's/ -- .*//')
  for option in $(grep -oE -- '(^|[ [])--?[a-z][-a-z]*' <<<"$usage" | tr -d '[ '); do
    grep -qE -- "^  (.*, )?$option( |\$)" <<<"$help" || fail "$program --help: usage names $option, which is not listed"
  done
done
exit $failed
