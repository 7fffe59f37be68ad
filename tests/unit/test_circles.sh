#!/usr/bin/env bash
# No circles: a source that uses another's functions is not used by that one, however long the way round. Read from the object
# files of a build, so it is what is called and not what is included. test_layering.sh looks at floors and rooms.
set -u
build=${1:?usage: $0 BUILD_FOLDER}

# Lines "USER USED", by source; an object is .../CMakeFiles/gptdist-FLOOR.dir/PATH.c.o. Kernels are compiled once for each
# instruction set under other names: one of them, the generic one, stands for all.
edges() {
  find "$build/CMakeFiles" -path '*/gptdist-*.dir/*' -name '*.c.o' | grep -vE 'gptdist-kernels-avx|\.pb-c\.c\.o$' | sort | while IFS= read -r object; do
    nm -P "$object" | sed "s|^|$(sed -E 's|.*/gptdist-[^/]*\.dir/||; s|\.o$||' <<< "$object") |"
  done | awk '$3 ~ /^[A-TV-Z]$/ { defined[$2] = $1 } $3 == "U" { user[++n] = $1; used[n] = $2 }
    END { for (i = 1; i <= n; i++) if (used[i] in defined && defined[used[i]] != user[i]) print user[i], defined[used[i]] }' | sort -u
}

# circles: what tsort says of its input, a line "a.c b.c ..." a circle
circles() {
  tsort 2>&1 > /dev/null | awk '/contains a loop/ { if (line) print line; line = ""; next } { sub(/^tsort: /, ""); line = line (line ? " " : "") $0 } END { if (line) print line }'
}

# The test must be able to fail: a planted circle of three is seen, a line of three is none.
[ "$(printf 'a.c b.c\nb.c c.c\nc.c a.c\n' | circles | wc -w)" -eq 3 ] || { echo "a planted circle is not seen"; exit 1; }
[ -z "$(printf 'a.c b.c\nb.c c.c\na.c c.c\n' | circles)" ] || { echo "a circle is seen where none is"; exit 1; }

list=$(edges)
count=$(grep -c . <<< "$list")
[ "$count" -gt 100 ] || { echo "found only $count uses between sources in $build: the test looks in the wrong folder"; exit 1; }

found=$(circles <<< "$list")
[ -z "$found" ] || sed 's/^/a circle: /' <<< "$found"
[ -z "$found" ]
