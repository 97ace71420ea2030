"""Ranks the locations of many sentences by their saliency, without optimising anything.

python examples/saliency_of_many_sentences.py MODEL SENTENCES
"""

import sys
from pathlib import Path

import fastinterp

if len(sys.argv) != 3:
    sys.exit(__doc__)
model = fastinterp.load_model(sys.argv[1])
sentences = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()

found = fastinterp.saliency(model, sentences, layer=0)
for sentence, scores in zip(sentences, found.scores, strict=True):
    tokens = fastinterp.tokenize(sentence)
    best = int(scores[: len(tokens)].argmax()) if tokens else None
    around = "no tokens" if best is None else " ".join(tokens[max(0, best - 2) : best + 3])
    print(f"{around:40} {sentence}")
