"""Explains a Keras 3 model, which is a PyTorch module where Keras runs on PyTorch.

pip install keras && python examples/explain_a_keras_model.py

One that was trained elsewhere, on TensorFlow or JAX too: keras.saving.load_model("model.keras") in place of Sequential.
"""

import importlib.util
import os
import sys

import numpy as np

if importlib.util.find_spec("keras") is None:
    sys.exit("This example needs Keras 3: pip install keras")
os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported
import keras
from keras import layers

import fastinterp

subjects = ("the film", "this plot", "her voice", "the whole cast", "one long scene")
verdicts = (("is a joy", "works very well", "shines at last"), ("is a bore", "never works", "falls very flat"))
texts = [(f"{subject} {verdict}", label) for subject in subjects for label in (0, 1) for verdict in verdicts[label]]
words = ["<pad>", "<unk>", *sorted({word for text, _ in texts for word in text.split()})]
LENGTH = 8

ids = np.zeros((len(texts), LENGTH), dtype="int32")
for row, (text, _) in zip(ids, texts, strict=True):
    row[: len(text.split())] = [words.index(word) for word in text.split()]

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        layers.Input((LENGTH,), dtype="int32"),
        layers.Embedding(len(words), 32, name="embedding"),
        layers.Conv1D(16, 3, padding="same", activation="relu", name="phrases"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(2, activation="softmax"),
    ]
)
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
model.fit(ids, np.array([label for _, label in texts]), epochs=60, batch_size=len(texts), verbose=0)

# What follows is all that explaining it takes. A model of one length of texts needs that length.
adapted = fastinterp.adapt(
    model, tokenizer=str.split, words=words, unknown_id=1, classes=("praise", "blame"), length=LENGTH
)
print(f"layers: {', '.join(adapted.layer_names)}")
result = fastinterp.interpret(adapted, "her film never works at last", locations=2)
print(f"{result.label} with probability {result.probability:.2f}, explained by the {result.path}: {result.reason}")
for location in result.locations:
    found = ", ".join(f"{word} {cosine:.2f}" for word, cosine in location.neighbors)
    print(f"{' '.join(location.tokens)} ({location.score:+.2f}) points to {found}")
