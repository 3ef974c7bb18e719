"""The walk over a package made for the purpose, and the names it settles on."""

import inspect
import sys
import warnings
from pathlib import Path
from textwrap import dedent

import pytest

from ragline.corpus.api_walk import walk
from ragline.errors import ConfigError
from tests.fixtures.outcomes import read_package

SOURCES = {
    "__init__.py": '''
        """A shop that sells things to people."""

        import warnings

        from shop import goods, till
        from shop.goods import Crate, DataFrame, Series
        from shop.till import pay

        __all__ = ["Crate", "DataFrame", "Series", "broken", "goods", "late", "missing", "old", "pay", "till", "text"]
        __version__ = "7.1"
        text = "a plain value"


        def unlisted():
            """Homed in the package although __all__ does not name it."""


        unlisted.__module__ = "shop"


        class Refusing:
            """A proxy that is not bound to anything yet."""

            def __getattribute__(self, name):
                raise RuntimeError("not bound")


        late = Refusing()


        def __getattr__(name):
            if name == "old":
                warnings.warn("old is gone, use pay", DeprecationWarning)
                return pay
            if name == "broken":
                raise OSError("no disk\\nat all")
            raise AttributeError(name)
        ''',
    "goods.py": '''
        import datetime

        __all__ = ["Crate", "DataFrame", "Day", "Series", "odd"]


        def helper():
            """Not named in __all__, so it is nobody's business."""


        class Reader:
            """Read the rows of a frame one at a time."""

            def next(self):
                """Give the next row, or nothing at the end."""

            @property
            def frame(self):
                """Go back to the frame that is read from."""


        class Accessor:
            """Descriptor docs that no user reads."""

            def __init__(self, kind):
                self.kind = kind

            def __get__(self, instance, owner):
                if instance is None:
                    return self.kind
                raise AssertionError("instances are never made")


        class Base:
            def count(self):
                """Count what is there, one by one."""

            _tally = count  # private, but its text is public

            def _hidden(self):
                """Private, and documented for the maintainers."""

            def short(self):
                """Too short."""

            def bare(self):
                pass


        class Crate(Base):
            """A wooden box that holds many things."""

            size = 3

            class Lid:
                """What closes the crate from above."""


        class DataFrame(Base):
            """Rows and columns of many kinds of values."""

            read = Accessor(Reader)

            @classmethod
            def of(cls):
                """Make a frame from nothing but hope."""

            def gone(self):
                """Do it the old way.

                .. deprecated:: 2.0
                    Use `of`.
                """

            def kept(self):
                """Do it in either way.

                Parameters
                ----------
                way : str
                    .. deprecated:: 2.0
                """


        class Series(Base):
            """Values of one kind, one after the other."""

            read = Accessor(Reader)


        class Day(datetime.date):
            """A day in the life of the shop."""

            def isoformat(self):
                """Write the day as the shop writes it."""

            ctime = lambda self: ""
            ctime.__doc__ = datetime.date.ctime.__doc__


        odd = datetime.timedelta
        ''',
    "till.py": '''
        """Where money changes hands, every single day."""

        from shop.goods import Crate


        def pay(amount):
            """Pay what is owed.

            Parameters
            ----------
            amount : int
                In cents.
            """


        def _count():
            """Nobody outside should call this one."""
        ''',
    "storage/__init__.py": """
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from shop.storage import cellar

            __all__ = ["cellar"]
        """,
    "storage/cellar.py": '''
        def fetch():
            """Bring up a bottle from below."""
        ''',
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, source in SOURCES.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source).lstrip())
    monkeypatch.syspath_prepend(tmp_path)
    yield "shop"
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


def test_names_texts_and_aliases(shop):
    documents, _ = read_package(shop)
    found = {d.doc_id: d for d in documents}

    assert found.keys() == {
        "shop",
        "shop.till",
        "shop.pay",
        "shop.unlisted",
        "shop.Refusing",  # not in __all__ either
        "shop.Crate",
        "shop.Crate.Lid",  # nested
        "shop.DataFrame",
        "shop.DataFrame.count",  # shared by three classes: a central one gives the name
        "shop.DataFrame.kept",  # only a parameter of it is deprecated
        "shop.DataFrame.of",
        "shop.DataFrame.read",  # named by the accessor, as its users write it
        "shop.DataFrame.read.next",
        "shop.DataFrame.read.frame",
        "shop.Series",
        "shop.goods.Day",
        "shop.goods.Day.isoformat",
    }
    assert found["shop.DataFrame.count"].aliases == (
        "shop.Crate.count",
        "shop.Series.count",
        "shop.goods.Crate.count",
        "shop.goods.DataFrame.count",
        "shop.goods.Series.count",
    )
    assert found["shop.pay"].aliases == ("shop.till.pay",)
    assert found["shop.pay"].text == "Pay what is owed.\n\nParameters\n----------\namount : int\n    In cents."
    assert found["shop.pay"].source == "shop 7.1: shop.pay"
    assert found["shop.pay"].title == "shop.pay"
    assert {d.format for d in documents} == {"numpydoc"}
    assert [d.doc_id for d in documents] == sorted(found)


def test_every_absence_has_one_reason(shop):
    _, drops = read_package(shop)

    assert {(d.item, d.reason, d.detail) for d in drops if "Day" not in d.item} == {
        ("shop.broken", "not accessible", "OSError: no disk at all"),
        ("shop.missing", "not accessible", "ModuleNotFoundError: No module named 'shop.missing'"),
        ("shop.old", "deprecated shim", ""),
        ("shop.late", "no docstring", ""),
        ("shop.text", "documented elsewhere", ""),
        ("shop.goods", "no docstring", ""),
        ("shop.goods.odd", "documented elsewhere", ""),
        ("shop.DataFrame.bare", "no docstring", ""),
        ("shop.DataFrame.short", "too short", ""),
        ("shop.DataFrame._hidden", "private", ""),
        ("shop.DataFrame.gone", "deprecated", ""),
    }
    # copied from, and inherited from, datetime.date
    foreign = {d.item: d.reason for d in drops if "Day" in d.item}
    assert foreign["shop.goods.Day.ctime"] == foreign["shop.goods.Day.weekday"] == "documented elsewhere"


def test_warnings_are_not_shown(shop):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        read_package(shop)
    assert not shown


def test_all_written_for_type_checkers_is_public(shop):
    documents, _ = read_package("shop.storage")

    assert [d.doc_id for d in documents] == ["shop.storage.cellar.fetch"]


def test_package_that_is_not_installed():
    with pytest.raises(ConfigError, match=r"no_such_shop: not installed \(No module named 'no_such_shop'\); run `pip"):
        read_package("no_such_shop")


def test_package_that_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "ruin.py").write_text("raise RuntimeError('roof fell in')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="ruin: does not import: RuntimeError: roof fell in; mend that installation"):
        read_package("ruin")


def test_version_of_a_distribution_with_another_name():
    # PyYAML installs the package yaml, so the version is the package's own
    import yaml

    documents, _ = read_package("yaml")
    assert documents[0].source.startswith(f"yaml {yaml.__version__}: yaml.")


@pytest.fixture(scope="module")
def pandas_corpus():
    return read_package("pandas")


def test_pandas_names_that_people_look_up(pandas_corpus):
    documents, _ = pandas_corpus
    names = {name for d in documents for name in (d.doc_id, *d.aliases)}

    assert names >= {
        "pandas.DataFrame.plot.bar",
        "pandas.Series.dt.tz_convert",
        "pandas.Series.cat.add_categories",
        "pandas.api.types.is_list_like",
        "pandas.api.typing.Rolling.std",
        "pandas.io.formats.style.Styler.apply",
        "pandas.tseries.offsets.CustomBusinessDay",
    }
    by_name = {d.doc_id: d for d in documents}
    assert "pandas.Index.str.replace" in by_name["pandas.Series.str.replace"].aliases
    assert "pandas.Series.replace" in by_name["pandas.DataFrame.replace"].aliases
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]
    assert not [name for name in names if name.endswith((".with_traceback", ".errno"))]


def test_pandas_texts_are_what_help_shows(pandas_corpus):
    import pandas

    by_name = {d.doc_id: d for d in pandas_corpus[0]}
    assert by_name["pandas.merge_asof"].text == inspect.getdoc(pandas.merge_asof)
    assert by_name["pandas.DataFrame.pivot"].text == inspect.getdoc(pandas.DataFrame.pivot)


def test_texts_and_names_are_distinct(pandas_corpus):
    documents, _ = pandas_corpus
    names = [name for d in documents for name in (d.doc_id, *d.aliases)]

    assert len({d.text for d in documents}) == len(documents) > 1000
    assert len(set(names)) == len(names)
    assert min(len(d.text) for d in documents) >= 20


def test_walk_is_the_same_twice():
    assert list(walk("json")) == list(walk("json"))
