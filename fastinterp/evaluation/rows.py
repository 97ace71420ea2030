"""One row of a table of answers: every measure of one answer, or of a control that stands for one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from fastinterp.evaluation.answers import answer_activations, answer_ids
from fastinterp.evaluation.bootstrap import Estimate, SentenceSums
from fastinterp.evaluation.explained import Explained
from fastinterp.evaluation.faithfulness import aopc
from fastinterp.evaluation.identification import identification_ranks
from fastinterp.evaluation.matching import matches, words_of_sentences
from fastinterp.evaluation.overlap import commonest_share, different_words, jaccard, overlap_between, overlap_within
from fastinterp.evaluation.reproduction import reproduction
from fastinterp.evaluation.said import Answer
from fastinterp.method.background import Whitening
from fastinterp.models.protocol import TextClassifier

# What each measure is, in the order of a table; docs/measures.md defines them.
MEASURES = {
    "matching": "sentences that get their class back from the words alone",
    "identified": "locations that the words tell apart from 99 others of their class; chance is .01",
    "field_identified": "the same of the optimised input that the words were read from",
    "reproduction": "cosine of the activations that the words bring about with the location's own",
    "field_reproduction": "the same of the optimised input",
    "overlap": "of what is said of two locations of one class, in different sentences (Jaccard)",
    "within": "of what is said of two locations of one sentence",
    "commonest": "words that are among the ten that are said most often of their class",
    "repeated": "words that stand in the location's own field",
    "agreement": "overlap with what the answer without the change says of the same location",
    "held": "tokens of the field that an inversion of the activations gives back",
    "aopc_compr": "comprehensiveness: probability that goes with the tokens; more is better",
    "aopc_suff": "sufficiency: probability that goes with all but the tokens; less is better",
}


@dataclass(frozen=True, eq=False)
class AnswerRow:
    """The measures of one answer.

    Attributes:
        answer: which.
        estimates: by the names of `MEASURES`.
        different: how many different words are said in all; None where nothing is said.
        sums: what the estimates were made of, sentence by sentence.
    """

    answer: str
    estimates: dict[str, Estimate]
    different: int | None = None
    sums: dict[str, SentenceSums] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: str, sums: Mapping[str, SentenceSums], different: int | None, seed: int) -> AnswerRow:
        """Returns the row with every measure's mean and interval."""
        return cls(answer, {name: each.estimate(seed) for name, each in sums.items()}, different, dict(sums))

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain numbers, ready for JSON."""
        said = {} if self.different is None else {"different": self.different}
        return {"answer": self.answer, **{name: asdict(each) for name, each in self.estimates.items()}, **said}


@dataclass(frozen=True, eq=False)
class Measurer:
    """Measures answers of the same locations.

    Attributes:
        model: the classifier that reads them back.
        layer: index of the explained layer.
        explained: the locations.
        whitening: of the layer; None where there is no background, so that nothing can be identified.
        seed: of distractors, partners and intervals.
    """

    model: TextClassifier
    layer: int
    explained: Explained
    whitening: Whitening | None
    seed: int

    def row(self, name: str, answer: Answer, unchanged: Answer | None = None) -> AnswerRow:
        """Returns all measures of an answer.

        Args:
            name: of the row.
            answer: to the same locations in the same order.
            unchanged: the answer without what this one leaves out or does otherwise, if it is such a variant.
        """
        explained = self.explained
        own = explained.activations
        ids = answer_ids(self.model, explained.fields, answer.words, answer.offset)
        read = answer_activations(self.model, self.layer, explained.fields, ids)
        values = {"identified": self._identified(read)}
        if answer.field is not None:
            values["field_identified"] = self._identified(answer.field)
        values["reproduction"] = reproduction(read, own)
        if answer.field is not None:
            values["field_reproduction"] = reproduction(answer.field, own)
        classes = explained.class_of_location
        values["overlap"] = overlap_between(answer.words, explained.key, classes, self.seed)
        values["within"] = overlap_within(answer.words, explained.sentence)
        values["commonest"] = commonest_share(answer.words, classes)
        values["repeated"] = _repeated(answer.words, explained.tokens)
        if unchanged is not None:
            pairs = zip(answer.words, unchanged.words, strict=True)
            shared = [jaccard(frozenset(mine), frozenset(its)) for mine, its in pairs]
            values["agreement"] = torch.tensor(shared, dtype=torch.float64)
        count = len(explained.label)
        said = words_of_sentences(answer.words, explained.sentence, count)
        matched = matches(self.model, explained.ids, said, explained.label)
        sums = {"matching": SentenceSums.of(matched, None, count)}
        sums |= {measure: SentenceSums.of(each, explained.sentence, count) for measure, each in values.items()}
        return AnswerRow.of(name, sums, different_words(answer.words), self.seed)

    def deletion_row(self, name: str, rationales: list[Tensor]) -> AnswerRow:
        """Returns comprehensiveness and sufficiency of tokens, (S, L) bool each."""
        values = aopc(self.model, self.explained.ids, rationales)
        count = len(self.explained.label)
        sums = {measure: SentenceSums.of(each, None, count) for measure, each in values.items()}
        return AnswerRow.of(name, sums, None, self.seed)

    def held_row(self, name: str, held: Tensor) -> AnswerRow:
        """Returns the share of tokens that the layer holds, (N,) float64 of the locations, NaN where unknown."""
        sums = {"held": SentenceSums.of(held, self.explained.sentence, len(self.explained.label))}
        return AnswerRow.of(name, sums, None, self.seed)

    def _identified(self, found: Tensor) -> Tensor:
        if self.whitening is None:
            return torch.full((len(found),), torch.nan, dtype=torch.float64)
        explained = self.explained
        ranks = identification_ranks(
            found,
            explained.activations,
            explained.key,
            explained.class_of_location,
            self.whitening,
            seed=self.seed,
        )
        return ranks.identified


def _repeated(words: list[list[str]], tokens: list[list[str]]) -> Tensor:
    shares = [
        sum(word in field for word in each) / len(each) if each else math.nan
        for each, field in zip(words, tokens, strict=True)
    ]
    return torch.tensor(shares, dtype=torch.float64)
