#!/usr/bin/env bash
# Every planted fault of tests/mutants/list still has its place in the sources: who changes such a line changes the list.
set -u
"$(dirname "${BASH_SOURCE[0]}")/../mutants/run" --check
