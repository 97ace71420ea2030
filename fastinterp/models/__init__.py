"""Classifiers that can be explained, and how they are kept on disk."""
