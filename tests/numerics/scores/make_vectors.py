#!/usr/bin/env python3
"""Vectors for tests/unit/test_scores.c, made by scikit-learn, SciPy, sacreBLEU and rouge-score:

    make_vectors.py --output FILE [--cases N] [--seed S] [--small] [--real FOLDER]

tests/unit/scores.json is that with --cases 16 --small; tests/numerics/test_peer_scores.sh has more. --real: texts of the folder shared/data too.
"""
import argparse
import csv
import json
import os
import random
import re
import string
import warnings

import sacrebleu
from rouge_score import rouge_scorer
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, classification_report, f1_score

# ---- labels ----

NAMES = ["ham", "spam", "positive", "negative", "体育", "财经新闻", "naïve", "a rather long name of a label", "x", "émigré", "0", "weighted avg"]


def metrics(labels, predicted, classes):
    def f1(average):
        return f1_score(labels, predicted, labels=classes, average=average, zero_division=0)
    return {"accuracy": accuracy_score(labels, predicted), "macro_f1": f1("macro"), "weighted_f1": f1("weighted"), "micro_f1": f1("micro")}


def label_case(rng, index, small):
    """few or many classes, of which some have no example or no prediction; good and bad predictions; every third has several labels"""
    multiple = index % 3 == 2
    classes = rng.choice([2, 2, 3, 4, 9] if small else [2, 2, 3, 4, 7, 12, 40, 150])
    count = rng.choice([1, 2, 5, 9, 30] if small else [1, 2, 5, 9, 30, 140, 400])
    names = [NAMES[i] if i < len(NAMES) else f"label {i}" for i in range(classes)]
    rng.shuffle(names)
    quality, used = rng.choice([0, 0.5, 0.9, 1]), rng.randint(1, classes)
    everything = list(range(classes))
    if multiple:
        share = rng.choice([0, 0.1, 0.5])
        labels = [[int(rng.random() < share) for _ in everything] for _ in range(count)]
        predicted = [[have if rng.random() < quality else int(rng.random() < share) for have in row] for row in labels]
    else:
        labels = [rng.randrange(used) for _ in range(count)]
        predicted = [label if rng.random() < quality else rng.randrange(classes) for label in labels]
        if index == 0:
            predicted = [(label + 1) % classes for label in labels]  # not one right
    text = classification_report(labels, predicted, labels=everything, target_names=names, digits=4, zero_division=0)
    return {"multiple": multiple, "names": names, "labels": labels, "predicted": predicted, "text": text,
            "metrics": metrics(labels, predicted, everything)}


def mcnemar_case(rng):
    first, second = rng.choice([(0, 0), (0, 1), (1, 0), (0, 30), (3, 3), (rng.randrange(40), rng.randrange(40)),
                                (rng.randrange(3000), rng.randrange(3000)), (100000, 100700)])
    return {"first": first, "second": second, "p": binomtest(first, first + second).pvalue if first + second else 1.0}


# ---- texts ----

WORDS = ["the", "The", "a", "An", "cat", "dog's", "sat", "on", "mat", "it's", "U.S.", "3.14", "1,000", "10-20", "well-known", "$5", "50%", "x=1", "(or)",
         "&quot;so&quot;", "&amp;", "&amp;lt;", "a/b", "e.g.,", "...", "--", "“so”", "naïve", "Ünder", "CAFÉ", "İzmir", "3\u212a", "Ω", "[1]", "`x`", "~", "-", "5-",
         "-5", "end.", "end,", "<skipped>", "<b>", "#1", "@me", "{}", "一", "今天", "天气很好。", "ＡＢＣ", "，", "…", "𠀀", "日本語テキスト", "한국어", "hello世界", "№", "2.", ".5"]
SPACES = [" "] * 30 + ["  ", "\t", "\u00a0", "\u3000", "\u2009", "\n", "-\n", "\x1c"]


def text(rng, words, most=14):
    return "".join(rng.choice(words) + rng.choice(SPACES) for _ in range(rng.randint(0, most)))


def changed(rng, base, words):
    """a text near another one"""
    parts = re.split(r"( )", base)
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(parts) + 1)
        if rng.random() < 0.5:
            parts.insert(at, rng.choice(words) + " ")
        elif at < len(parts):
            parts[at] = " "
    return "".join(parts)


def corpus(rng):
    words = rng.sample(WORDS, rng.randint(5, len(WORDS)))
    segments, references = rng.choice([1, 2, 5]), rng.choice([1, 1, 2, 3])
    streams = [[text(rng, words) for _ in range(segments)] for _ in range(references)]
    hypotheses = [changed(rng, rng.choice(streams)[i], words) if rng.random() < 0.8 else text(rng, words) for i in range(segments)]
    return hypotheses, streams


# Words that two references have once each and the text three times; two references equally near; two orders without a match.
CORPORA = [(["the the the cat sat on"], [["the cat is on a"], ["on the mat they sat"]]), (["a b c d"], [["a b c d e"], ["b c d"]]),
           (["a b x c"], [["a b y c"]]), (["b a", "a a c"], [["a b", "a c c"]])]


def bleu_case(rng, hypotheses, streams, tokenize=None, smooth=None):
    smooth = smooth or rng.choice(["none", "floor", "add-k", "exp", "exp"])
    value = rng.choice([None, None, 0.01, 2.5]) if smooth in ("floor", "add-k") else None
    tokenize, effective = tokenize or rng.choice(["none", "13a", "zh", "char"]), rng.random() < 0.3
    if len(streams) > 1 and len(hypotheses) > 1 and rng.random() < 0.2:
        streams[-1][rng.randrange(len(hypotheses))] = None  # fewer references
    bleu = sacrebleu.BLEU(tokenize=tokenize, smooth_method=smooth, smooth_value=value, effective_order=effective)
    score = bleu.corpus_score(hypotheses, streams)
    line = score.format(signature=str(bleu.get_signature())).replace(f"version:{sacrebleu.__version__} ", "version:V ")
    return {"hypotheses": hypotheses, "references": streams, "tokenize": tokenize, "smooth": smooth, "value": value, "effective": effective,
            "score": score.score, "line": line, "tokens": [bleu.tokenizer(h.rstrip()).split() for h in hypotheses]}


class Tokens:
    """one of sacreBLEU's tokenizers for rouge-score, which has none for other scripts than a-z"""

    def __init__(self, name):
        self.split = sacrebleu.BLEU(tokenize=name).tokenizer

    def tokenize(self, line):
        return self.split(line.rstrip()).split()


def rouge_case(hypothesis, references, tokenize=None):
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Tokens(tokenize) if tokenize else None)
    scores = scorer.score_multi(references, hypothesis)
    return {"hypothesis": hypothesis, "references": references, "tokenize": tokenize,
            **{name: list(map(float, score)) for name, score in scores.items()}}


def squad(answer):
    """what evaluate-v1.1.py of SQuAD does to an answer before it compares"""
    answer = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


LETTERS = [c for first, end in ((0xc0, 0x250), (0x370, 0x590), (0x1e00, 0x2000), (0x10400, 0x10450))
           for c in map(chr, range(first, end)) if c.isalnum() and c != "\u03a3"]  # a sigma at the end of a word is the one that looks around


def letters(rng):
    """letters of many alphabets, of which some have a lower case"""
    return "".join(rng.choice([" ", "a", rng.choice(LETTERS)]) for _ in range(20))


def real_cases(rng, folder):
    """meanings with several texts each; Chinese sentences against their neighbours in a list sorted by length"""
    meanings = {}
    with open(os.path.join(folder, "parallel/e2e_devset.csv"), encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            meanings.setdefault(row["mr"], []).append(row["ref"])
    groups = [group for group in meanings.values() if len(group) >= 4]
    hypotheses, streams = [group[0] for group in groups], [[group[i] for group in groups] for i in (1, 2, 3)]
    chinese = [line.rstrip("\n").split("\t")[1] for line in open(os.path.join(folder, "parallel/tatoeba_en_zh.tsv"), encoding="utf-8")]
    bleu = [bleu_case(rng, hypotheses, [list(s) for s in streams], tokenize) for tokenize in ("none", "13a", "zh", "char")]
    bleu += [bleu_case(rng, chinese[8000:9999], [chinese[8001:10000]], tokenize) for tokenize in ("zh", "char")]
    return bleu, [rouge_case(group[0], group[1:]) for group in groups]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--real")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)
    n = options.cases
    texts = [text(rng, WORDS) for _ in range(n)] + [letters(rng) for _ in range(n)]
    vectors = {"labels": [label_case(rng, i, options.small) for i in range(n)], "mcnemar": [mcnemar_case(rng) for _ in range(n)],
               "bleu": [bleu_case(rng, *c, "none", "exp") for c in CORPORA] + [bleu_case(rng, *corpus(rng)) for _ in range(n)],
               "rouge": [rouge_case(changed(rng, t, WORDS), [t] + [text(rng, WORDS) for _ in range(rng.randrange(3))],
                                   rng.choice([None, None, "char", "zh", "13a"])) for t in texts],
               "squad": [{"text": t, "normalised": squad(t)} for t in texts]}
    if options.real:
        bleu, rouge = real_cases(rng, options.real)
        vectors["bleu"] += bleu
        vectors["rouge"] += rouge
    with open(options.output, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(f'"{kind}": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]"
                                      for kind, cases in vectors.items()) + "\n}\n")


main()
