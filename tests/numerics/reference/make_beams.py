#!/usr/bin/env python3
"""make_beams.py MODEL OUT: what transformers generates from a Hugging Face folder, greedily and by beam search, a case a line.

OUT is tests/numerics/reference/beams.jsonl; it was made with transformers 5 from stories260K. Needs torch and transformers:
python -m venv V; V/bin/pip install torch transformers; V/bin/python make_beams.py stories260K beams.jsonl
"""
import json
import random
import sys

import torch
from transformers import AutoModelForCausalLM

PROMPTS = [[1], [1, 403, 407, 261, 378], [1, 291, 338], [1, 436, 441, 270], [1, 310, 400, 263, 415]]
STOP, LINE = 426, 13  # ids that come often: they end texts of many lengths


def cases():
    for prompt in PROMPTS[:3]:
        for beams in (1, 2, 4):
            yield prompt, [1, 2], {"num_beams": beams}
    draw = random.Random(5)
    for ends in ([STOP], [LINE, STOP], [LINE]):
        for beams in (2, 4):
            for penalty in (1.0, 0.0, 2.0, -1.0):
                for early in draw.sample([False, True, "never"], 2):
                    yield draw.choice(PROMPTS), ends, {"num_beams": beams, "length_penalty": penalty, "early_stopping": early}
    for prompt in PROMPTS[:2]:
        yield prompt, [STOP], {"repetition_penalty": 1.3}
        yield prompt, [STOP], {"repetition_penalty": 1.3, "num_beams": 4}
        yield prompt, [STOP], {"min_new_tokens": 25}
        yield prompt, [STOP], {"min_new_tokens": 25, "num_beams": 3, "repetition_penalty": 1.1}
        yield prompt, [STOP], {"max_length": 12, "num_beams": 2, "length_penalty": 0.5}


def main():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    torch.set_num_threads(1)
    with open(sys.argv[2], "w") as out:
        for prompt, ends, options in cases():
            if "max_length" not in options:
                options["max_new_tokens"] = 40
            ids = torch.tensor([prompt])
            result = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=ends, pad_token_id=0,
                                    return_dict_in_generate=True, output_scores=True, **options)
            case = {"prompt": prompt, "ends": ends, "options": options, "ids": result.sequences[0].tolist()[len(prompt):]}
            if options.get("num_beams", 1) > 1:
                case["score"] = round(float(result.sequences_scores[0]), 6)
            out.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main()
