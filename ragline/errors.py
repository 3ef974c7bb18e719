"""What can go wrong, sorted by who can fix it.

A message says where and what, what was expected and what came, and what to do about it, on one line.
"""


class RaglineError(Exception):
    """Anything Ragline reports as one line and a non-zero exit."""

    exit_code = 1


class ConfigError(RaglineError):
    """A setting is wrong: fix params.yaml, the command line or the environment."""

    exit_code = 2


class DataError(RaglineError):
    """An input is wrong: fix the document, the question or the file."""

    exit_code = 3


class MissingArtifact(DataError):
    """A file that a stage makes is not there: run that stage."""


class ModelError(RaglineError):
    """A model or an index cannot be used: name another, or rebuild it."""

    exit_code = 4


class ServiceError(RaglineError):
    """Something outside the program failed: the disk, the network, an endpoint."""

    exit_code = 5
