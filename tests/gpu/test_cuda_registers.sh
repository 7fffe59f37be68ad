#!/usr/bin/env bash
# No CUDA kernel spills more registers than tests/gpu/spills allows; a spill that is new or larger is found, and so is an object whose
# report is not there. Reads what ptxas said in the build; skipped where the build has no CUDA.
set -u
build=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bash "$here/registers" "$build"
code=$?
[ $code -ne 77 ] || exit 77
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
[ $code -eq 0 ] || bad=1

# finds TEXT LIST BUILD   leaves with 1 and says so
finds() {
  local said
  said=$(ALLOWED=$2 bash "$here/registers" "$3" 2>&1)
  if [ $? -eq 1 ] && grep -q -- "$1" <<<"$said"; then
    echo "found: $1"
  else
    echo "NOT found: $1"
    tail -n 3 <<<"$said"
    bad=1
  fi
}
mkdir -p "$work/build/gptdist-cuda.dir" "$work/build/lib"
touch "$work/build/lib/libgptdist-cuda.so" "$work/build/gptdist-cuda.dir/a.cu.o" "$work/none"
cat >"$work/build/gptdist-cuda.dir/a.cu.o.ptxas" <<'REPORT'
ptxas info    : Compiling entry function '_Z5probev' for 'sm_90'
ptxas info    : Function properties for _Z5probev
    64 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 64 bytes cumulative stack size, 2048 bytes smem
REPORT
printf 'sm_90\ta.cu\tprobe\t8\t8\n' >"$work/less"
printf 'sm_90\ta.cu\tprobe\t8\t12\n' >"$work/enough"
finds "probe of a.cu for sm_90 spills 8 + 12 bytes, which is new" "$work/none" "$work/build"
finds "probe of a.cu for sm_90 spills 8 + 12 bytes, allowed are 8 + 8" "$work/less" "$work/build"
ALLOWED=$work/enough bash "$here/registers" "$work/build" | grep -qE '^a.cu +sm_90 +probe +255 +64 +8 +12 +2048$' || { echo "the table differs"; bad=1; }
ALLOWED=$work/enough bash "$here/registers" "$work/build" >/dev/null || { echo "what is allowed fails"; bad=1; }
: >"$work/build/gptdist-cuda.dir/a.cu.o.ptxas"
finds "no report of ptxas beside .*a.cu.o: build it anew" "$work/enough" "$work/build"
exit $bad
