"""Users' words for the words of a manual."""

import random
import re

_EVERYDAY: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"comma-separated values(?: \(csv\))? file", ("csv file", "csv", "comma separated file")),
    (r"na/nan values|na/null values|nan/na values", ("missing values", "NaNs", "null values", "empty cells")),
    (r"missing values", ("NaN values", "nulls", "missing data", "gaps")),
    (r"nan values|null values|na values", ("missing values", "NaNs", "missing entries")),
    (r"(?:over|along|on) (?:the )?(?:requested|specified|given) axis", ("over rows or columns", "along an axis", "")),
    (r"the requested axis", ("an axis",)),
    (r"the specified", ("the given",)),
    (r"dataframes", ("dataframes", "tables", "data frames", "frames")),
    (r"dataframe objects", ("dataframes", "tables")),
    (r"a dataframe", ("a dataframe", "a table", "a data frame", "my df")),
    (r"dataframe", ("dataframe", "table", "df", "frame")),
    (r"a series(?! of\b)", ("a series", "a column", "one column")),
    (r"a dataframegroupby", ("a grouped dataframe", "grouped data", "a DataFrameGroupBy")),
    (r"a seriesgroupby", ("a grouped series", "grouped data", "a SeriesGroupBy")),
    (r"a resampler", ("resampled data", "a Resampler", "a resampled series")),
    (r"a rolling$", ("a rolling window", "a moving window")),
    (r"an expanding$", ("an expanding window", "an Expanding window")),
    (r"an exponentialmovingwindow", ("an exponentially weighted window", "an ewm window")),
    (r"multiindex", ("multi-index", "hierarchical index", "MultiIndex")),
    (r"maximum value", ("largest value", "highest value", "max")),
    (r"minimum value", ("smallest value", "lowest value", "min")),
    (r"maximum", ("max",)),
    (r"minimum", ("min",)),
    (r"(?<!of the )mean(?!,| and| or)", ("average",)),
    (r"standard deviation", ("std", "standard deviation")),
    (r"regular expression", ("regex",)),
    (r"delimiter", ("separator",)),
    (r"element-?wise(?=$|[,.;]| (?:if|whether)\b)", ("for each element", "element by element")),
    (r"each element", ("every item", "every element", "each value")),
    (r"elements", ("items", "values", "entries")),
    (r"boolean", ("bool",)),
    (r"integers", ("ints", "whole numbers")),
    (r"an integer", ("an int", "a whole number")),
    (r"a string", ("a str", "a string")),
    (r"dtypes", ("data types", "types")),
    (r"dtype", ("data type",)),
    (r"duplicated?", ("repeated", "duplicate")),
    (r"unique", ("distinct",)),
    (r"quantile", ("percentile", "quantile")),
    (r"cumulative sum", ("running total", "cumulative sum")),
    (r"cumulative", ("running", "cumulative")),
    (r"lexicographically", ("alphabetically",)),
    (r"ascending", ("increasing",)),
    (r"descending", ("decreasing",)),
    (r"retain", ("keep",)),
    (r"exclude", ("leave out", "skip")),
    (r"omit", ("leave out",)),
    (r"particular", ("certain",)),
    (r"beginning", ("start",)),
    (r"boundar(?:y|ies)", ("limits", "edges")),
    (r"concatenated", ("joined", "glued together")),
    (r"in-?place", ("in place", "without making a copy")),
    (r"an identical", ("the same",)),
    (r"additional", ("extra",)),
    (r"row labels", ("index labels", "row names")),
    (r"column labels", ("column names",)),
    (r"keyword arguments", ("extra options", "keyword arguments")),
    (r"(?<!, )whether", ("if", "whether")),
    (r"purchase", ("buy",)),
    (r"obtain", ("get",)),
    (r"prior to", ("before",)),
    (r"subsequently", ("later",)),
)
_RULES = tuple((re.compile(rf"(?<![\w.'=/-]){known}(?![\w.(='-])", re.IGNORECASE), said) for known, said in _EVERYDAY)

_VERBS_SAID: dict[str, tuple[str, ...]] = {
    "aggregate": ("aggregate", "summarise", "collapse"),
    "append": ("append", "add"),
    "apply": ("apply", "run"),
    "calculate": ("calculate", "compute", "work out", "get"),
    "cast": ("cast", "convert", "change"),
    "check": ("check", "test"),
    "combine": ("combine", "put together", "merge"),
    "compute": ("compute", "calculate", "work out", "get"),
    "concatenate": ("concatenate", "glue together", "join", "stack"),
    "construct": ("construct", "build", "create", "make"),
    "convert": ("convert", "change", "transform", "turn"),
    "count": ("count",),
    "create": ("create", "make", "build"),
    "delete": ("delete", "remove", "get rid of"),
    "detect": ("detect", "find", "spot"),
    "determine": ("determine", "find out", "work out"),
    "display": ("display", "show"),
    "drop": ("drop", "remove", "throw away"),
    "execute": ("execute", "run"),
    "extract": ("extract", "pull out", "get"),
    "fill": ("fill", "replace"),
    "find": ("find", "look up", "locate"),
    "generate": ("generate", "make", "produce"),
    "insert": ("insert", "add", "put"),
    "iterate": ("iterate", "loop", "go"),
    "join": ("join", "combine", "connect"),
    "load": ("load", "read", "import", "open"),
    "locate": ("locate", "find"),
    "make": ("make", "create", "build"),
    "merge": ("merge", "join", "combine"),
    "modify": ("modify", "change", "edit"),
    "obtain": ("get",),
    "perform": ("do", "perform", "run"),
    "print": ("print", "show", "display"),
    "purchase": ("buy",),
    "read": ("read", "load", "import", "open"),
    "remove": ("remove", "drop", "delete", "get rid of"),
    "render": ("render", "show", "output"),
    "retrieve": ("get", "fetch", "look up"),
    "select": ("select", "pick", "choose"),
    "shift": ("shift", "move"),
    "sort": ("sort", "order"),
    "transform": ("transform", "change", "turn"),
    "write": ("write", "save", "export", "store"),
}


def in_everyday_words(text: str, rng: random.Random, share: float = 0.6) -> str:
    """Put some of the technical words as a user might, each with probability `share`."""
    for known, said in _RULES:
        if known.search(text) and rng.random() < share:
            text = known.sub(rng.choice(said), text)
    return " ".join(text.split())


def another_verb(verb: str, rest: str, rng: random.Random) -> str:
    """The predicate with the verb that a user might have in mind."""
    said = rng.choice(_VERBS_SAID.get(verb, (verb,)))
    if rest.split()[0] in ("about", "by", "down", "in", "into", "off", "on", "out", "over", "up", "with"):
        return f"{verb} {rest}"
    if said == "turn":
        if " to " not in rest or " to be " in rest:
            return f"{verb} {rest}"
        rest = rest.replace(" to ", " into ", 1)
    if said == "replace" and " with " not in rest:
        said = verb
    return f"{said} {rest}"
