"""Do the words stand for the prediction, and for their location? Measures of an interpretation, and controls."""

from fastinterp.evaluation.accuracy import accuracy, class_scores
from fastinterp.evaluation.answers_table import AnswersTable, measure_answers
from fastinterp.evaluation.bootstrap import Estimate, bootstrap_mean
from fastinterp.evaluation.faithfulness import aopc
from fastinterp.evaluation.identification import Identification, identification_ranks
from fastinterp.evaluation.matching import MatchingRate, matches, matching_rate

__all__ = [
    "AnswersTable",
    "Estimate",
    "Identification",
    "MatchingRate",
    "accuracy",
    "aopc",
    "bootstrap_mean",
    "class_scores",
    "identification_ranks",
    "matches",
    "matching_rate",
    "measure_answers",
]
