"""The operators and their specification: nothing here knows a model."""
