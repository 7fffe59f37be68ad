#!/usr/bin/env python3
"""Writes io/base/nfc_table.h from Python's Unicode data: python3 make_nfc_table.py > nfc_table.h"""
import unicodedata as unicode

every = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
hangul = range(0xAC00, 0xD7A4)  # by arithmetic, in nfc.c
pairs = {}
for c in every:
    parts = unicode.decomposition(chr(c))
    if parts and not parts.startswith("<") and c not in hangul:
        pairs[c] = ([int(p, 16) for p in parts.split()] + [0])[:2]
rows = sorted(pairs)
composed = sorted((a, b, rows.index(c)) for c, (a, b) in pairs.items() if b and unicode.normalize("NFC", chr(a) + chr(b)) == chr(c))
ranges = []
for c in every:
    value = unicode.combining(chr(c))
    if value and ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == value:
        ranges[-1][1] = c
    elif value:
        ranges.append([c, c, value])
seconds = sorted({b for _, b, _ in composed if not unicode.combining(chr(b))})


def table(kind, name, rows, comment):
    print(f"/* {comment} */\nstatic const {kind} {name} = {{")
    line = " "
    for row in rows:
        text = " {" + ", ".join(f"{v:#x}" for v in row) + "}," if isinstance(row, (tuple, list)) else f" {row:#x},"
        if len(line) + len(text) > 126:
            print(line)
            line = " "
        line += text
    print(line + "\n};\n")


print(f"/* nfc_table.h - written by make_nfc_table.py from Unicode {unicode.unidata_version}. */")
print("#ifndef GD_IO_BASE_NFC_TABLE_H\n#define GD_IO_BASE_NFC_TABLE_H\n\n#include <stdint.h>\n\n/* clang-format off */\n")
table("uint32_t", "decompositions[][3]", [(c, *p) for c, p in sorted(pairs.items())], "a character, what it is made of; 0: nothing more")
table("uint16_t", "compositions[]", [row for _, _, row in composed], "rows of them whose two parts are composed again, by these parts")
table("uint32_t", "classes[][3]", ranges, "first and last of a run of characters, their combining class")
table("uint32_t", "seconds[]", seconds, "characters of class 0 that join what stands before them")
print("/* clang-format on */\n\n#endif")
