#!/usr/bin/env bash
# The CUDA shared object opens from a program that is not linked to CUDA, takes only the error record from it, exports one symbol,
# and without a driver gives a clear answer. Needs no GPU; skipped where the build has no CUDA.
set -u
build=$1
library=$build/lib/libgptdist-cuda.so
program=$build/tests/gpu/check_backend
if [ ! -e "$library" ] || [ ! -x "$program" ]; then
  echo "skipped: built without CUDA"
  exit 77
fi
bad=0
complain() {
  echo "$1"
  bad=1
}

# What it wants from us: the program must export it (a weak symbol may be absent).
for symbol in $(nm -D --undefined-only "$library" | awk '$1 == "U" && $2 ~ /^gd_/ {print $2}'); do
  case "$symbol" in
    gd_error_*) ;;
    *) complain "wants $symbol: only the error record may come from the program" ;;
  esac
  nm -D --defined-only "$program" | awk '{print $3}' | grep -qx "$symbol" || complain "the program does not export $symbol"
done
[ -n "$(nm -D --undefined-only "$library" | grep gd_error_write)" ] || complain "has its own error record"

if readelf -d "$library" | grep -q 'NEEDED.*libnccl'; then complain "is linked to NCCL, which one rank does not need"; fi

exported=$(nm -D --defined-only "$library" | awk '$3 !~ /^_/ {print $3}' | sort | tr '\n' ' ')
[ "$exported" = "gd_cuda_backend " ] || complain "exports \"$exported\", expected gd_cuda_backend alone"

for each in "$program" "$build"/bin/gptdist-*; do
  [ -x "$each" ] || continue
  if ldd "$each" | grep -Eiq 'libcuda|libcublas|libnccl'; then complain "$each is linked to CUDA libraries"; fi
done

text=$("$program")
code=$?
case "$code" in
  0) echo "GPU: $text" ;;
  77) case "$text" in
    *"no CUDA driver: "* | *"no GPU: "*) echo "without a GPU it says: $text" ;;
    *) complain "without a GPU it says \"$text\"" ;;
  esac ;;
  *) complain "check_backend left with $code: $text" ;;
esac

# The checks themselves run on the CPU against another instruction set.
OMP_NUM_THREADS=1 timeout 120 "$build/tests/gpu/check_kernels" cpu >"$build/tests/gpu/check_kernels.log" ||
  complain "check_kernels cpu: $(tail -n 3 "$build/tests/gpu/check_kernels.log")"
exit "$bad"
