"""Corpora, tables and word vectors."""
