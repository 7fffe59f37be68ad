#!/usr/bin/env python3
"""Vectors for tests/unit/test_scores.c, made by scikit-learn and SciPy:

    make_vectors.py --output FILE [--cases N] [--seed S] [--small]

tests/unit/scores.json is that with --cases 16 --small; tests/numerics/test_peer_scores.sh has more.
"""
import argparse
import json
import random
import warnings

from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, classification_report, f1_score

NAMES = ["ham", "spam", "positive", "negative", "体育", "财经新闻", "naïve", "a rather long name of a label", "x", "émigré", "0", "weighted avg"]


def metrics(labels, predicted, classes):
    def f1(average):
        return f1_score(labels, predicted, labels=classes, average=average, zero_division=0)
    return {"accuracy": accuracy_score(labels, predicted), "macro_f1": f1("macro"), "weighted_f1": f1("weighted"), "micro_f1": f1("micro")}


def label_case(rng, multiple, small):
    """few or many classes, of which some have no example or no prediction; good and bad predictions"""
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
    text = classification_report(labels, predicted, labels=everything, target_names=names, digits=4, zero_division=0)
    return {"multiple": multiple, "names": names, "labels": labels, "predicted": predicted, "text": text,
            "metrics": metrics(labels, predicted, everything)}


def mcnemar_case(rng):
    first, second = rng.choice([(0, 0), (0, 1), (1, 0), (0, 30), (3, 3), (rng.randrange(40), rng.randrange(40)),
                                (rng.randrange(3000), rng.randrange(3000)), (100000, 100700)])
    return {"first": first, "second": second, "p": binomtest(first, first + second).pvalue if first + second else 1.0}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)
    n = options.cases
    vectors = {"labels": [label_case(rng, i % 3 == 2, options.small) for i in range(n)], "mcnemar": [mcnemar_case(rng) for _ in range(n)]}
    with open(options.output, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(f'"{kind}": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]"
                                      for kind, cases in vectors.items()) + "\n}\n")


main()
