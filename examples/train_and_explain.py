"""Trains a small classifier on texts of your own, saves it, and asks what decides its predictions.

python examples/train_and_explain.py [FOLDER]
"""

import sys
import tempfile
from itertools import product
from pathlib import Path

import torch

import fastinterp
from fastinterp.data.splits import TextDataset, split

# Stands for your own texts. A few hundred are the least that a classifier learns from.
PRAISE = ("a delightful film", "moving and funny", "superb acting throughout", "a joy to watch")
BLAME = ("a tedious film", "clumsy and dull", "dreadful acting throughout", "a chore to watch")
FRAMES = ("{}", "{} , all in all", "critics called it {}", "in short , {} .", "{} from start to end", "we found it {}")

texts = [frame.format(phrase) for phrase, frame in product(PRAISE + BLAME, FRAMES)] * 4
labels = [int(any(phrase in text for phrase in PRAISE)) for text in texts]
corpus = split(TextDataset(tuple(texts), tuple(labels), ("blame", "praise")))

tokens = [fastinterp.tokenize(text) for text in texts]
vocabulary = fastinterp.Vocabulary.build(tokens)
vectors = fastinterp.train_vectors(tokens, dimension=50)
embedding = fastinterp.embed_vocabulary(vocabulary, vectors)
torch.manual_seed(0)
shape = fastinterp.ModelConfig(("blame", "praise"), length=12, channels=(16, 8), kernel_sizes=(3, 3),
                               embedding_dimension=50)  # fmt: skip
model = fastinterp.ConvTextModel(shape, vocabulary, embedding.matrix)
fastinterp.train_model(model, corpus.train, fastinterp.TrainingConfig(learning_rate=0.01, batch_size=16, epochs=10))
print(f"accuracy on held-out texts: {fastinterp.evaluate.accuracy(model, corpus.test):.2f}")

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "model"
fastinterp.save(model, folder)

for result in fastinterp.interpret(fastinterp.load_model(folder), ["critics called it a joy to watch"], locations=2):
    print(f"{result.text!r}: {result.label} ({result.probability:.2f})")
    for location in result.locations:
        words = ", ".join(word for word, _ in location.neighbors)
        print(f"  location {location.index} sees {' '.join(location.tokens)!r} and points to {words}")
