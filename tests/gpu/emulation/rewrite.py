#!/usr/bin/env python3
"""rewrite.py FROM TO: launches kernel<<<grid, block, shared, stream>>>(arguments) become calls of emulate_launch, declarations
of shared memory become pointers to the block's."""
import re
import sys


def split(text):
    """At commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return parts + [text[start:]]


def closing(text, at):
    """The bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise SystemExit("brackets do not close")


source = open(sys.argv[1]).read()
while "<<<" in source:
    at = source.index("<<<")
    end = source.index(">>>", at)
    name = re.search(r"[A-Za-z_]\w*(<[^<>;]*>)?\s*$", source[:at])
    grid, block, shared, stream = (split(source[at + 3 : end]) + ["0", "NULL"])[:4]
    first = source.index("(", end)
    last = closing(source, first)
    call = f"emulate_launch(dim3({grid}), dim3({block}), {shared}, {stream}, [](auto... a_) {{ {name.group(0)}(a_...); }}, {source[first + 1 : last]})"
    source = source[: name.start()] + call + source[last + 1 :]
source = re.sub(
    r"extern __shared__ ([\w ]+?) (\w+)\[\];", r"\1 *const \2 = (\1 *)emulate_dynamic_shared();", source
)
source = re.sub(
    r"__shared__ (?:__align__\(16\) )?([\w ]+?) (\w+)((?:\[[^\]]*\])+);",
    r"static const char site_\2 = 0; \1 (&\2)\3 = *(\1 (*)\3)emulate_shared(&site_\2, sizeof(\1 \3));",
    source,
)
if "__shared__" in source:
    raise SystemExit(f"{sys.argv[1]}: a declaration of shared memory that is not understood")
with open(sys.argv[2], "w") as out:
    out.write("#include <string.h>\n#include <cuda_runtime.h>\n#line 1\n" + source)
