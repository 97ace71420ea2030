"""Errors about files and the environment. Wrong arguments raise ValueError or TypeError."""


class FastinterpError(Exception):
    """Base of every error about a file, a download or the environment; the message is one readable line."""


class DataError(FastinterpError):
    """A corpus or a file of word vectors is missing or malformed."""


class ModelError(FastinterpError):
    """A model folder is missing, incomplete, inconsistent or cannot be written."""


class DownloadError(FastinterpError):
    """A download failed or did not match its checksum; the message says what to fetch by hand and where to put it."""


class TrainingError(FastinterpError):
    """Training diverged; the model must not be used."""


class LostTextWarning(UserWarning):
    """A tokeniser read so little of a text that what is said of it is doubtful."""
