#!/usr/bin/env bash
# The plan of the house, read from the sources: no include goes up a floor, each foreign header has one owner, nothing below
# launch/ prints or leaves, every fallible function is checked, files stay small and formatted.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
bad=0
complain() {
  echo "$1"
  bad=1
}

floors=(shard comm io trainer launch) # from the ground up
mapfile -t sources < <(find "${floors[@]}" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort)
[ "${#sources[@]}" -gt 10 ] || { echo "found only ${#sources[@]} sources: the test looks in the wrong folder"; exit 1; }

floor_of() {
  local i
  for i in "${!floors[@]}"; do
    if [ "${floors[i]}" = "${1%%/*}" ]; then echo "$i"; fi
  done
}

# Includes of our own start at the root and never point up.
while IFS=: read -r file line text; do
  name=${text#*\"}
  name=${name%%\"*}
  case "$name" in
    *.pb-c.h) continue ;;
    */*) ;;
    *) complain "$file:$line: include \"$name\": write it from the root (\"shard/...\")"; continue ;;
  esac
  theirs=$(floor_of "$name")
  if [ -z "$theirs" ]; then
    complain "$file:$line: include \"$name\": no such floor"
  elif [ "$theirs" -gt "$(floor_of "$file")" ]; then
    complain "$file:$line: includes \"$name\" from a floor above"
  fi
done < <(grep -nE '^ *# *include *"' "${sources[@]}")

# The rooms of io/, from the ground up: every file is in one, and none includes from a room above.
rooms=(base config text tokenizer data checkpoint metrics)
room_of() {
  local i
  for i in "${!rooms[@]}"; do
    if [[ "$1" == "io/${rooms[i]}/"* ]]; then echo "$i"; fi
  done
}
for file in "${sources[@]}"; do
  if [[ "$file" == io/* ]] && [ -z "$(room_of "$file")" ]; then complain "$file: in no room of io/ (${rooms[*]})"; fi
done
while IFS=: read -r file line text; do
  name=${text#*\"}
  name=${name%%\"*}
  if [[ "$name" == io/* ]] && [ "$(room_of "$name")" -gt "$(room_of "$file")" ]; then
    complain "$file:$line: includes \"$name\" from a room above (${rooms[*]}, from the ground up)"
  fi
done < <(grep -nE '^ *# *include *"io/' $(printf '%s\n' "${sources[@]}" | grep '^io/'))

# No headers include each other in a circle (test_circles.sh looks at who calls whom).
circle=$(grep -nHE '^ *# *include *"' $(printf '%s\n' "${sources[@]}" | grep -E '\.(h|cuh)$') |
  sed -nE 's/^([^:]*):[0-9]*:[^"]*"([^"]*)".*/\1 \2/p' | tsort 2>&1 >/dev/null | sed 's/^tsort: //')
[ -z "$circle" ] || complain "headers include each other in a circle: $(tr '\n' ' ' <<<"$circle")"

# owner HEADER-PATTERN ALLOWED-FILES-PATTERN MOST
owner() {
  local users file
  mapfile -t users < <(grep -lE "^ *# *include *[<\"]($1)[>\"]" "${sources[@]}")
  for file in "${users[@]}"; do
    [[ "$file" =~ ^($2)$ ]] || complain "$file: includes <$1>, which belongs to $2"
  done
  if [ "${#users[@]}" -gt "$3" ]; then complain "<$1> has ${#users[@]} owners (${users[*]}), expected at most $3"; fi
}
owner 'mpi\.h' 'comm/[a-z_]*\.c' 3
owner 'nccl\.h' 'comm/[a-z_]*nccl[a-z_]*\.(c|cu|h)' 2
owner 'cuda[a-z_]*\.h|cublas[A-Za-z_0-9]*\.h' '(comm/[a-z_]*(cuda|nccl)[a-z_]*\.(c|cu|h)|trainer/kernels/cuda/.*)' 40
owner 'hdf5\.h' 'io/base/hdf5\.h' 1
owner 'yaml\.h' 'io/[a-z_/0-9]*\.c' 1
owner '.*\.pb-c\.h|protobuf-c/.*' 'io/[a-z_/0-9]*\.c' 2
owner 'openssl/.*' '(io|comm)/[a-z_0-9/]*\.c' 2
owner 'zlib\.h' 'io/[a-z_/0-9]*\.c' 2
owner 'zstd\.h' 'io/[a-z_/0-9]*\.c' 2
owner 'pcre2\.h' 'io/[a-z_/0-9]*\.c' 1
owner 'cjson/cJSON\.h|cJSON\.h' 'io/[a-z_/0-9]*\.[ch]' 2

# Every fallible function that a header declares carries GD_CHECKED (those that write the record return it unchanged).
while IFS=: read -r file line text; do
  case "$text" in
    *GD_CHECKED* | *gd_fail* | *gd_error_write* | *gd_error_context* | *gd_error_raise* | *'(*'* | *typedef*) continue ;;
  esac
  complain "$file:$line: returns gd_status without GD_CHECKED: $text"
done < <(grep -nE '^(static inline )?gd_status [a-z_0-9]+\(' $(printf '%s\n' "${sources[@]}" | grep '\.h$'))

# Below launch/ nothing prints, leaves or aborts; comm/session_leave.c is the one way out when peers may sit in a collective.
while IFS= read -r hit; do
  complain "$hit: prints or leaves below launch/"
done < <(grep -nE '(^|[^a-z_0-9>.])(printf|puts|putchar|perror|vprintf|exit|_exit|abort|MPI_Abort) *\(|f(printf|puts|putc) *\([^;]*std(out|err)' \
  $(printf '%s\n' "${sources[@]}" | grep -vE '^(launch/|comm/session_leave\.c$)') | grep -vE '^[^:]*:[0-9]+: *(/?\*|//)' | grep -vE '/\* leaves: [^*]+\*/')

# A source says in its first line what it does: "/* name.c - ...".
headed=(shard comm io trainer launch)
for file in "${sources[@]}"; do
  [[ "$file" == *.c && " ${headed[*]} " == *" ${file%%/*} "* ]] || continue
  IFS= read -r line < "$file"
  [[ "$line" == "/* ${file##*/} - "* ]] || complain "$file:1: found \"${line:0:60}\", expected \"/* ${file##*/} - what it does\""
done

# A file past 600 lines is two files.
while read -r lines file; do
  if [ "$file" != total ] && [ "$lines" -gt 600 ]; then complain "$file: $lines lines, expected at most 600"; fi
done < <(wc -l "${sources[@]}")

# Formatting, where the formatter is the one the sources were formatted with.
if command -v clang-format >/dev/null && clang-format --version | grep -q 'version 14\.'; then
  mapfile -t formatted < <(find "${floors[@]}" tests -name '*.[ch]' | sort)
  while IFS= read -r line; do complain "$line"; done < <(clang-format --dry-run "${formatted[@]}" 2>&1 | grep -E 'warning:' |
    sed -E 's/^([^:]*):([0-9]+):.*/\1:\2: not as clang-format writes it/' | awk -F: '!seen[$1]++')
fi
exit "$bad"
