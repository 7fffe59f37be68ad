# fake.sh - shared by the scripts that run programs on the fake CUDA runtime and the fake NCCL (tests/gpu/fake). Source it with the build
# folder in $1; `programs`: more than gptdist-train. It has all of tests/numerics/lib.sh, and
#   fake     the fake back end        bin      a folder of copies of the programs, beside which it lies as they look for it
# Leaves with 77 where the build has no CUDA, or there is no mpirun.
. "$(dirname "${BASH_SOURCE[0]}")/../numerics/lib.sh"
fake=$build/tests/gpu/fake/libgptdist-cuda.so
if [ ! -e "$fake" ] || ! command -v mpirun >/dev/null; then
  echo "skipped: built without CUDA, or no mpirun"
  exit 77
fi
mkdir -p "$work/bin" "$work/lib"
for program in gptdist-train ${programs-}; do cp "$bin/$program" "$work/bin/"; done
cp "$fake" "${fake%/*}/libnccl.so.2" "$work/lib/"
bin=$work/bin
export GPTDIST_TEST_WITHOUT_DRIVER=1
