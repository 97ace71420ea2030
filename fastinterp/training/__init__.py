"""Training a model on a corpus."""
