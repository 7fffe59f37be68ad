#!/usr/bin/env bash
# Scores equal those of scikit-learn, SciPy, sacreBLEU and rouge-score, which make their vectors anew: 200 random sets of labels, 200 random
# corpora, texts. GPTDIST_SCORES_VENV is a virtual environment that has them; CASES and SEED are other vectors.
#   python3 -m venv FOLDER && FOLDER/bin/pip install scikit-learn sacrebleu rouge-score
set -u
source=$(cd "$(dirname "$0")/../.." && pwd)
program=$(cd "$1" && pwd)/tests/test_scores
python=${GPTDIST_SCORES_VENV:-none}/bin/python
[ -x "$python" ] || { echo "skipped: GPTDIST_SCORES_VENV names no virtual environment with scikit-learn, sacrebleu and rouge-score"; exit 77; }
vectors=$(mktemp) || exit 1
trap 'rm -f "$vectors"' EXIT
real=()
[ -d "$source/../shared/data" ] && real=(--real "$source/../shared/data")
"$python" "$source/tests/numerics/scores/make_vectors.py" --output "$vectors" --cases "${CASES:-200}" --seed "${SEED:-2}" "${real[@]}" || exit 1
"$program" "$vectors"
