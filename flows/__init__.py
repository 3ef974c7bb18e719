"""Prefect: when, where, retried, watched. What is stale stays DVC's question."""

from ragline.runtime.environment import apply_defaults

apply_defaults()  # before Prefect is imported: it reads these switches once
