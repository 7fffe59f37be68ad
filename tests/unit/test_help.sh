#!/usr/bin/env bash
# --help of every program: the exit codes are those of README's table, and these those of shard/base/status.h; what its usage line
# names is an option, every line fits 132 columns, and the README's table has the program.
set -u
bin=$(cd "$1/bin" && pwd) || exit 1
source=$(cd "$(dirname "$0")/../.." && pwd)
failed=0
codes=$(sed -n '/^| exit code |/,/^$/s/^| \([0-9][0-9+ N]*\) | \(.*\) |$/\1 \2/p' "$source/README.md")
fail() { echo "FAILED: $*"; failed=1; }

[ "$(sed -n 's/^  GD_[A-Z_]* = \([0-9]*\),.*/\1/p' "$source/shard/base/status.h")" = "$(cut -d' ' -f1 <<<"$codes" | grep -v 128)" ] ||
  fail "README.md lists other codes than shard/base/status.h"

for path in "$bin"/gptdist-*; do
  [ -x "$path" ] && [ "${path%.so}" = "$path" ] || continue
  program=$(basename "$path")
  help=$("$path" --help 2>&1) || fail "$program --help left with $?"
  told=$(sed -n '/^exit codes of all/,$s/^  \([0-9][0-9+ N]*[0-9N]\|0\|1\)  *\(.*\)$/\1 \2/p' <<<"$help")
  [ "$told" = "$codes" ] || fail "$program --help: other exit codes than README.md: $(diff <(echo "$codes") <(echo "$told"))"
  grep -q "^| \`$program\` |" "$source/README.md" || fail "README.md does not list $program"
  awk 'length > 132' <<<"$help" | grep . && fail "$program --help: a long line"
  usage=$(sed -n '/^usage:/,/^$/p' <<<"$help" | sed 's/ -- .*//')
  for option in $(grep -oE -- '(^|[ [])--?[a-z][-a-z]*' <<<"$usage" | tr -d '[ '); do
    grep -qE -- "^  (.*, )?$option( |\$)" <<<"$help" || fail "$program --help: usage names $option, which is not listed"
  done
done
exit $failed
