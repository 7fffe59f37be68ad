#!/bin/bash
# Hugging Face's transformers as the peer: tiny models that it made come in, those that we wrote go out, logits within 1e-5 and every
# tensor's bytes again; ids of its tokenizers on tokenizer.json files of every kind, and on those that we wrote. Needs Python with
# transformers and torch: GPTDIST_TEST_PYTHON names the interpreter, else .venv/bin/python of the source folder is tried:
#   python3 -m venv .venv && .venv/bin/pip install torch transformers
here=$(cd "$(dirname "$0")" && pwd)
python=${GPTDIST_TEST_PYTHON:-$here/../../.venv/bin/python}
if ! "$python" -c 'import torch, transformers' 2> /dev/null; then
  echo "skipped: no Python with torch and transformers (GPTDIST_TEST_PYTHON, or .venv in the source folder)"
  exit 77
fi
. "$here/lib.sh"
bin=$(cd "$bin" && pwd)
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1 TQDM_DISABLE=1
finished=yes
"$python" "$here/peer_transformers.py" "$bin" "$work" "$source"
