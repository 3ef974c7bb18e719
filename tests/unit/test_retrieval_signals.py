"""What a search says about its own success, by hand."""

from dataclasses import asdict

import pytest

from ragline.retrieval.signals import signals
from ragline.retrieval.words import analyser

TEXTS = {"a": "Merge two tables.", "b": "Tables are sorted.", "c": "Nothing.", "d": "Merge sorted tables.", "e": "x"}


def told(question="How do I merge sorted tables?", dense=None, lexical=None, served=None):
    dense = {"a": 0.8, "b": 0.6, "c": 0.5, "d": 0.4, "e": 0.3} if dense is None else dense
    lexical = {"d": 7.0, "a": 5.0} if lexical is None else lexical
    served = {"a": 0.9, "b": 0.5, "c": 0.2, "d": 0.1} if served is None else served
    return asdict(signals(question, dense, lexical, served, TEXTS.__getitem__, analyser("english")))


def test_signals_by_hand():
    # Lead: 0.8 − (0.6 + 0.5 + 0.4 + 0.3) / 4. Two of ten places are shared. Of how, do, i, merg, sort, tabl the first
    # two passages have two each; d has three, and is fourth.
    assert told() == pytest.approx({"cosine": 0.8, "lead": 0.35, "score": 0.9, "agreement": 0.2, "words": 1 / 3})


def test_nothing_found_is_all_zero():
    assert set(told(dense={}, lexical={}, served={}).values()) == {0.0}
    assert told(question="Is it?")["words"] == 0.0
    assert told(dense={"a": 0.8})["lead"] == 0.0
