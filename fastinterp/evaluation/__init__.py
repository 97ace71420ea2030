"""Do the words stand for the prediction? Measures of an interpretation."""

from fastinterp.evaluation.matching import MatchingRate, matching_rate
from fastinterp.training.trainer import accuracy, class_scores

__all__ = ["MatchingRate", "accuracy", "class_scores", "matching_rate"]
