#!/usr/bin/env bash
# tests/gpu/run itself, on the emulation of CUDA with small sizes: it passes from end to end, each of its parts fails where there is
# something to find and hides no other, and it says what is missing. Needs no GPU; skipped where the build has no CUDA.
tried=(run --small)
. "$(dirname "${BASH_SOURCE[0]}")/emulated.sh"
# says PART HOW [TEXT]   a row of the table
says() { grep -E "^$1 .* $2 .* s " "$work/said" | grep -q -- "${3:-}"; }
# none PART   no row of the part is all right
none() { ! grep -qE "^$1 .* ok .* s " "$work/said"; }

check "all parts pass" runs 0 "$emulated"
for part in kernels shapes losses matrix memory widths; do check "$part: with a row" says $part ok; done
check "and none that failed" [ "$(grep -c FAILED "$work/said")" = 0 ]
check "the sanitizer is told where it is not found" says sanitizer 'not run' 'no compute-sanitizer here'

# faulty NAME FILE BEFORE AFTER   a folder like $emulated, with a fault in one file of the kernels
faulty() {
  local folder=$work/$1
  mkdir -p "$folder/bin" "$folder/lib" "$folder/tests"
  cp -a "$emulated/objects" "$folder/objects"
  cp -a "$source/trainer/kernels/cuda" "$folder/sources"
  grep -qF -- "$3" "$folder/sources/$2" || { echo "$2 no longer has: $3"; return 1; }
  awk -v before="$3" -v after="$4" '{ at = index($0, before); if (at) $0 = substr($0, 1, at - 1) after substr($0, at + length(before)); print }' \
    "$source/trainer/kernels/cuda/$2" >"$folder/sources/$2"
  PLAIN=1 bash "$here/emulation/build" "$folder/objects" "$folder/sources" "$2" || return 1
  cp "$folder/objects/emulated.so" "$folder/lib/libgptdist-cuda.so"
  cp -l "$emulated"/bin/* "$folder/bin/"
  ln -s "$build/tests/gpu" "$folder/tests/gpu"
  rm -rf "$folder/objects"
}
check "a kernel with a fault compiles" faulty norm norm.cu 'm.rstd * fmaf(-normal.x[i], m.gx, g - m.g)' \
  '1.0000002f * m.rstd * fmaf(-normal.x[i], m.gx, g - m.g)'
check "it fails" runs 1 "$work/norm" kernels losses matrix memory
check "kernels: which one" says kernels FAILED 'norm, float32'
check "kernels: the others go on" says kernels ok 'sums, float32'
check "losses: other bits" says losses FAILED 'other bits'
check "losses: so near that bfloat16 is all right" says losses ok bfloat16
check "matrix: other bits" none matrix
check "memory: goes on" says memory ok
check "and below the table is the first difference" grep -q "norm float32 variant .*, the CPU's" "$work/said"

check "a product with a fault compiles" faulty product matmul.c 'if (args->leaves > 1 || inner > 1) return run_leaves(kernels, args,' \
  'gd_matmul fewer = *args; fewer.leaves -= args->leaves > 1; if (args->leaves > 1 || inner > 1) return run_leaves(kernels, &fewer,'
check "it fails" runs 1 "$work/product" shapes losses
check "shapes: it is found" says shapes FAILED 'of them'
check "losses: so it is there" says losses FAILED

check "a write outside its memory compiles" faulty outside optimizer.cu 'a.sums[unit] = total;' \
  'a.sums[unit] = total; if (row_start() == 0 && unit == a.units - 1) a.sums[a.units] = total;'
check "it fails" runs 1 "$work/outside" losses
check "losses: it is found in a training" grep -q 'bytes of memory (number [0-9]*) were overwritten' "$work/said"

check "a product of another order each time compiles" faulty sometimes cublaslt.c 'CUBLAS_STATUS_SUCCESS) chosen++;' \
  'CUBLAS_STATUS_SUCCESS) chosen++; if (gd_cuda_now_ns() / 1000 % 2 && chosen + 1 < count) chosen++;'
check "it fails" runs 1 "$work/sometimes" losses
check "losses: other bits the second time" says losses FAILED 'other bits'
check "losses: so near that the CPU's are" says losses ok 'bfloat16, fast: losses'

check "kernels that take more memory compile" faulty memory backend.c 'state->scratch_bytes = scratch_bytes;' \
  'void *more; (void)device->ops->alloc(device, 4 << 20, &more); state->scratch_bytes = scratch_bytes;'
check "it fails" runs 1 "$work/memory" memory
check "memory: by how much" says memory FAILED '+2\.[4-9]'

check "a kernel that ends the program compiles" faulty crash sums.cu 'if (leaves == 0 || args->width == 0)' 'abort(); if (leaves == 0)'
check "it fails" runs 1 "$work/crash" kernels shapes
check "kernels: which one" says kernels FAILED 'sums, which ended the program'
check "kernels: those behind it go on" says kernels ok 'rows alone, float32'
check "shapes: go on" says shapes ok

check "a library without a product compiles" faulty lacks cublaslt.c 'out->offered = chosen < count;' \
  'out->offered = chosen < count && wanted->n != 50;'
check "it fails" runs 1 "$work/lacks" shapes
check "shapes: of that model" says shapes FAILED 'small odd, float32, 18 products'
check "shapes: the others go on" says shapes ok 'small Llama, bfloat16, 18 products'
check "shapes: which" grep -q 'fast FAILED: matmul: no algorithm for m' "$work/said"

# A tool that says what it would have run, and finds a race.
mkdir "$work/tools"
cat >"$work/tools/compute-sanitizer" <<'TOOL'
#!/bin/sh
echo "$@" >>"$0.log"
[ "$2" = memcheck ] || { echo "========= ERROR: Race reported"; exit 9; }
TOOL
chmod +x "$work/tools/compute-sanitizer"
check "a sanitizer that finds something fails" runs 1 PATH="$work/tools:$PATH" "$emulated" sanitizer
check "sanitizer: racecheck" says sanitizer FAILED racecheck
check "sanitizer: not memcheck" says sanitizer ok memcheck
check "and what it said" grep -q "ERROR: Race reported" "$work/said"
check "it was given the kernels" grep -q -- "--tool memcheck --error-exitcode 9 .*check_kernels attention" "$work/tools/compute-sanitizer.log"

# A GPU that does not answer, and a training that TERM does not end.
stuck() { # NAME PROGRAM   a folder with a program that hangs
  mkdir -p "$work/$1/tests/gpu" "$work/$1/bin"
  cp -l "$bin"/gptdist-* "$work/$1/bin/"
  printf '#!/bin/sh\necho "GPU 0 of 1, made up"\n' >"$work/$1/tests/gpu/check_backend"
  rm -f "$work/$1/$2"
  printf '#!/bin/sh\ntrap "" TERM\nsleep 60\n' >"$work/$1/$2"
  chmod +x "$work/$1/tests/gpu/check_backend" "$work/$1/$2"
}
in_time() { # COMMAND...   in less than 40 s
  local began=$SECONDS
  "$@" && ((SECONDS - began < 40))
}
stuck mute tests/gpu/check_backend
check "a GPU that does not answer fails" in_time runs 1 SECONDS_LEFT=5 "$work/mute" losses
check "and is told" grep -q 'the GPU does not answer' "$work/said"
stuck busy bin/gptdist-train
check "a training that does not end fails, and nothing waits for it" in_time runs 1 SECONDS_LEFT=8 "$work/busy" losses
check "losses: it was killed" says losses FAILED 'left with 137'

# CUDA's libraries are missing where a GPU may be: the loader's words, and where they are looked for.
mkdir -p "$work/bare/tests/gpu"
printf '#!/bin/sh\necho "cannot open the shared object: libcublasLt.so.13: cannot open shared object file"\nexit 1\n' >"$work/bare/tests/gpu/check_backend"
chmod +x "$work/bare/tests/gpu/check_backend"
check "without CUDA's libraries nothing is checked" runs "$([ -e /dev/nvidiactl ] && echo 1 || echo 77)" "$work/bare"
check "and it is told which" grep -q 'libcublasLt.so.13' "$work/said"

check "what is not ready in time fails" runs 1 SECONDS_LEFT=0 "$emulated" kernels losses
check "kernels: not ready" says kernels FAILED 'not ready in time'
check "losses: not ready" says losses FAILED 'not ready in time'

# Two GPUs whose NCCL (tests/gpu/fake) delivers nothing.
mkdir -p "$work/two/tests/gpu" "$work/two/bin"
printf '#!/bin/sh\necho "GPU 0 of 2, made up"\n' >"$work/two/tests/gpu/check_backend"
chmod +x "$work/two/tests/gpu/check_backend"
cp -l "$build/tests/gpu/check_collectives" "$work/two/tests/gpu/"
cp -l "$bin"/gptdist-* "$work/two/bin/"
check "collectives that deliver nothing fail" runs 1 GPTDIST_CUDA_LIBRARY="$build/tests/gpu/fake/libgptdist-cuda.so" FAKE_CUDA_DEVICES=2 "$work/two" collectives
check "collectives: two ranks" says collectives FAILED '2 ranks'
check "and which" grep -q 'on group half, rank . of 2: FAILED' "$work/said"
check "no GPU is no failure" runs 77 CUDA_VISIBLE_DEVICES=-1 "$build"
check "and is told" grep -qE 'skipped: no GPU \(no (GPU|CUDA driver): ' "$work/said"
check "a part that is none is told" runs 64 "$build" kernel
finish
