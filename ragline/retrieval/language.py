"""The language of the documents, as a section of params.yaml takes it."""

from typing import Annotated

from pydantic import AfterValidator

from ragline.retrieval.words import LANGUAGES


def _known(language: str) -> str:
    if language not in LANGUAGES:
        raise ValueError(f"expected one of {', '.join(LANGUAGES)}")
    return language


Language = Annotated[str, AfterValidator(_known)]
"""Snowball's name of a language, or `none`: words as they are."""
