"""Do the words stand for the prediction? Measures of an interpretation."""

from fastinterp.evaluation.accuracy import accuracy, class_scores
from fastinterp.evaluation.matching import MatchingRate, matching_rate

__all__ = ["MatchingRate", "accuracy", "class_scores", "matching_rate"]
