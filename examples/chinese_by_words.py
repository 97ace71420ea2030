"""Trains on Chinese texts that a word segmenter of yours cuts, here jieba, and explains with its words.

python examples/chinese_by_words.py [FOLDER]

Without a segmenter, the tokeniser "unicode" reads Chinese by single characters; it needs nothing else.
"""

import importlib.util
import logging
import sys
import tempfile
from itertools import product
from pathlib import Path

import torch

import fastinterp
from fastinterp.data.splits import TextDataset, split

if importlib.util.find_spec("jieba") is None:
    sys.exit("This example needs jieba, a word segmenter for Chinese: pip install jieba")
import jieba

jieba.setLogLevel(logging.WARNING)


def words_of_jieba(text: str) -> list[str]:
    """Returns the words of a text. A model is saved under this function's name, and asks for it when it is loaded."""
    return jieba.lcut(text)


# Stands for your own texts: great, touching, worth seeing; dull, hard to watch, a disappointment.
PRAISE = ("非常精彩", "十分感人", "值得一看")
BLAME = ("非常无聊", "十分难看", "令人失望")
FRAMES = ("这部电影{}。", "演员的表演{}", "我觉得剧情{}。", "观众说它{}", "总的来说,{}。")

texts = [frame.format(phrase) for phrase, frame in product(PRAISE + BLAME, FRAMES)] * 5
labels = [int(any(phrase in text for phrase in PRAISE)) for text in texts]
corpus = split(TextDataset(tuple(texts), tuple(labels), ("blame", "praise")))

tokenizer = fastinterp.make_tokenizer(words_of_jieba)
tokens = [tokenizer.read(text).tokens for text in texts]
vocabulary = fastinterp.Vocabulary.build(tokens)
vectors = fastinterp.train_vectors(tokens, dimension=50)
embedding = fastinterp.embed_vocabulary(vocabulary, vectors)
torch.manual_seed(0)
shape = fastinterp.ModelConfig(("blame", "praise"), length=12, channels=(16,), kernel_sizes=(3,),
                               embedding_dimension=50, tokenizer=tokenizer)  # fmt: skip
model = fastinterp.ConvTextModel(shape, vocabulary, embedding.matrix)
fastinterp.train_model(model, corpus.train, fastinterp.TrainingConfig(learning_rate=0.01, batch_size=16, epochs=10))
print(f"accuracy on held-out texts: {fastinterp.evaluate.accuracy(model, corpus.test):.2f}")

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "model"
fastinterp.save(model, folder)
loaded = fastinterp.load_model(folder, tokenizer=words_of_jieba)

for kind, found in fastinterp.audit(loaded, ["我觉得这部电影值得一看", "Отличный фильм"]).findings.items():
    for each in found.worst:
        print(f"{kind}: {each.text!r} ({each.amount:.2f})")
for result in fastinterp.interpret(loaded, ["我觉得这部电影值得一看"], locations=2):
    print(f"{result.text!r}: {result.label} ({result.probability:.2f})")
    for location in result.locations:
        begin, end = location.spans[0][0], location.spans[-1][1]
        near = " ".join(word for word, _ in location.neighbors)
        print(f"  location {location.index} sees {result.text[begin:end]!r}, characters {begin} to {end}")
        print(f"    and points to {near}")
