#!/usr/bin/env bash
# What launch/bundle packs runs where nothing but a base system is: in a root that holds the files of Debian's required packages and none
# of what gptdist was built with, one rank and two under the bundle's mpirun train to the same bits, a restarter finds both, the GPU
# checks say that there is no GPU, and on an emulated one they pass. BARE_ROOT=DIR: in a root that debootstrap made (debootstrap --variant=minbase bookworm DIR).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../numerics/lib.sh"
for need in dpkg-query unshare chroot ldd readelf strip ompi_info orted; do
  command -v "$need" >/dev/null || { echo "skipped: no $need"; exit 77; }
done
apart=(unshare --mount --pid --fork)
[ "$(id -u)" = 0 ] || apart=(unshare --map-root-user --mount --pid --fork)
"${apart[@]}" chroot / true 2>/dev/null || { echo "skipped: no mount namespace or no chroot here"; exit 77; }

root=${BARE_ROOT:-$work/root}
# The files of the required packages, and the libraries that those programs need.
base_system() {
  local link file
  mkdir -p "$root"/{usr,dev/shm,proc,tmp,etc}
  for link in bin sbin lib lib64; do
    mkdir -p "$root/usr/$link"
    [ -L "/$link" ] && ln -s "usr/$link" "$root/$link"
  done
  dpkg-query -W -f '${Priority} ${Package}\n' | awk '$1 == "required" { print $2 } END { print "libc6" }' | xargs dpkg -L 2>/dev/null | grep -E '^(/usr)?/(s?bin|lib(64)?)/' | sort -u >"$work/files"
  while read -r file; do [ -d "$file" ] || echo "$file"; done <"$work/files" | xargs cp -a --parents -t "$root" 2>/dev/null
  find "$root/usr/bin" "$root/usr/sbin" -type f | xargs ldd 2>/dev/null | awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/.*ld-linux" { print $1 }' | sort -u |
    while read -r file; do cp -L --parents "$file" "$root" 2>/dev/null; done
  cp /etc/passwd /etc/group "$root/etc/"
  ln -sf bash "$root/usr/bin/sh"
  command -v mawk >/dev/null && ln -sf mawk "$root/usr/bin/awk"
}
[ -n "${BARE_ROOT:-}" ] || base_system
bundle=$root/gptdist-bundle
rm -rf "$bundle"
check "a bundle is made" bash "$source/launch/bundle" "$bundle" "$build"
check "another one does not go into it" eval '! bash "$source/launch/bundle" "$bundle" "$build" >/dev/null 2>&1'
check "no file of it is a link that leads out of it" eval '! find "$bundle" -type l | grep .'

# inside COMMAND...   in the root, with an empty environment
inside() {
  "${apart[@]}" sh -c 'root=$1
    shift
    mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/dev/shm" || exit 99
    for node in null zero urandom; do
      [ -e "$root/dev/$node" ] || : >"$root/dev/$node"
      [ -c "$root/dev/$node" ] || mount --bind "/dev/$node" "$root/dev/$node"
    done
    [ ! -d "$root/cuda" ] || mount --bind "$CUDA_FOLDER" "$root/cuda"
    exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/job CUDA_HOME=$CUDA_INSIDE \
      OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 sh -c "cd /job && $*"' _ "$root" "$@"
}
export CUDA_FOLDER="" CUDA_INSIDE=""
rm -rf "$root/job" && mkdir "$root/job" && cp "$work/text.txt" "$root/job"
sed -e 's|\$corpus|corpus|; s|data: {path:.*}|data: {path: corpus}|' "$work/gpt2.yaml" >"$root/job/gpt2.yaml"
if ! inside true; then
  echo "skipped: the root does not start"
  finished=yes
  exit 77
fi
check "nothing of Open MPI or HDF5 is in the root" eval '! find "$root" -path "$bundle" -prune -o \( -name "mpirun*" -o -name "libmpi*" -o -name "libhdf5*" \) -print | grep .'
check "no library of the bundle is missing, and the others are glibc's" inside '/gptdist-bundle/start sh -c "for f in /gptdist-bundle/bin/* /gptdist-bundle/openmpi/bin/*; do ldd \$f; done" >all
  ! grep "not found" all && ! grep "=> /" all | grep -vE "=> (/gptdist-bundle/lib/|(/usr)?/lib/[^ ]*/lib(c|m|dl|rt|pthread|resolv|util|anl|nsl)\.so)"'
check "data is prepared" inside '/gptdist-bundle/start gptdist-data prepare --tokenizer bytes --output corpus --validation-fraction 0.05 text.txt >log 2>&1 || { cat log; false; }'
check "one rank trains" inside '/gptdist-bundle/start gptdist-train --config gpt2.yaml --set run.directory=one >log 2>&1 || { cat log; false; }'
check "two ranks train" inside '/gptdist-bundle/start mpirun --oversubscribe -np 2 gptdist-train --config gpt2.yaml --set run.directory=two >log 2>&1 || { cat log; false; }'
check "two ranks train under gptdist-run" inside '/gptdist-bundle/start gptdist-run -n 2 -- gptdist-train --config gpt2.yaml --set run.directory=three >log 2>&1 || { cat log; false; }'
check "all to the same bits" inside 'for r in one two three; do /gptdist-bundle/start gptdist-ckpt hash $r; done | sort -u >hashes; [ $(wc -l <hashes) = 1 ] && [ -s hashes ]'
if [ -e "$bundle/lib/libgptdist-cuda.so" ]; then
  gpu() { inside "for s in run bench; do /gptdist-bundle/tests/gpu/\$s >log 2>&1; code=\$?; [ \$code = 77 ] && grep -q 'no GPU' log || { echo \$s left with \$code; cat log; exit 1; }; done"; }
  check "without CUDA's libraries the checks say that there is no GPU" gpu
  library=$(ldd "$build/lib/libgptdist-cuda.so" | awk '$1 ~ "^libcublasLt" { print $3 }')
  if [ -n "$library" ]; then
    mkdir -p "$root/cuda"
    CUDA_FOLDER=$(dirname "$(dirname "$library")") CUDA_INSIDE=/cuda
    check "with them, of CUDA_HOME, too" gpu
    check "and then it is the driver that is not there" inside '/gptdist-bundle/tests/gpu/run | grep -q "no CUDA driver"'
    rm -rf "$root/python"
    CUDA_INSIDE="" && check "so it is with those of a Python environment" inside 'mkdir -p /python/lib/python3.11/site-packages/nvidia/cu13
      ln -sfn /cuda/lib /python/lib/python3.11/site-packages/nvidia/cu13/lib
      VIRTUAL_ENV=/python /gptdist-bundle/tests/gpu/run | grep -q "no CUDA driver"'
    rm -rf "$root/python" "$root/cuda"
  fi
  # Where there is a GPU: the emulation in its place.
  if emulated=$(bash "$here/emulation/folder" "$build" 2>/dev/null); then
    ln -sfn /proc/self/fd "$root/dev/fd"
    cp "$emulated/lib/libgptdist-cuda.so" "$bundle/lib/"
    check "with a GPU the checks pass" inside '/gptdist-bundle/tests/gpu/run --small kernels collectives memory >log 2>&1 && grep -q "^memory .* ok " log || { cat log; false; }'
    check "and times are printed" inside '/gptdist-bundle/tests/gpu/bench --small >log 2>&1 && grep -q "whole steps, bfloat16 fast" log && grep -q "no Python with torch" log || { cat log; false; }'
  fi
fi
rm -rf "$bundle"
finish
