"""Do the words stand for the prediction, and for their location? Measures of an interpretation, and controls."""

from fastinterp.evaluation.accuracy import accuracy, class_scores
from fastinterp.evaluation.bootstrap import Estimate, bootstrap
from fastinterp.evaluation.faithfulness import faithfulness
from fastinterp.evaluation.identification import Identification, identification_ranks
from fastinterp.evaluation.matching import MatchingRate, matching, matching_rate

__all__ = [
    "Estimate",
    "Identification",
    "MatchingRate",
    "accuracy",
    "bootstrap",
    "class_scores",
    "faithfulness",
    "identification_ranks",
    "matching",
    "matching_rate",
]
