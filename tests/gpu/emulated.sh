# emulated.sh - shared by the scripts that try tests/gpu/run and tests/gpu/bench themselves. Source it with the build folder in $1 and the
# script and its first arguments in `tried`: it makes the build folder `emulated`, in which the emulation stands for a GPU, and
# has all of tests/numerics/lib.sh. Leaves with 77 where the build has no CUDA.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../numerics/lib.sh"
emulated=$(bash "$here/emulation/folder" "$build" 2>"$work/log")
code=$?
if [ $code = 77 ]; then
  echo "skipped: $(tail -n 1 "$work/log")"
  exit 77
fi
[ $code = 0 ] || { cat "$work/log"; echo "the emulation does not compile"; exit 1; }

# runs CODE [VARIABLE=VALUE...] [ARGUMENT...]   ${tried[@]} leaves with that code; what it says is in $work/said
runs() {
  local code=$1 settings=() left
  shift
  while [[ $1 == *=* ]]; do settings+=("$1") && shift; done
  env "${settings[@]}" timeout 200 bash "$here/${tried[0]}" "${tried[@]:1}" "$@" >"$work/said" 2>&1 </dev/null
  left=$?
  [ $left = "$code" ] && return 0
  echo "left with $left, expected $code"
  sed 's/^/  | /' "$work/said"
  return 1
}
