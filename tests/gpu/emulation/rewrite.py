#!/usr/bin/env python3
"""rewrite.py FROM.cu TO.cpp: launches kernel<<<grid, block, shared, stream>>>(arguments) become calls of emulate_launch."""
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
    grid, block = split(source[at + 3 : end])[:2]
    first = source.index("(", end)
    last = closing(source, first)
    call = f"emulate_launch(dim3({grid}), dim3({block}), [&] {{ {name.group(0)}{source[first:last + 1]}; }})"
    source = source[: name.start()] + call + source[last + 1 :]
with open(sys.argv[2], "w") as out:
    out.write('#include <string.h>\n#include <cuda_runtime.h>\n' + source)
