"""How the filters write down many wordings at once."""


def one_of(*lines: str) -> str:
    """A pattern that matches any of the words in the lines; `_` stands for white space inside one.

    >>> one_of("does is_not", "says?")
    '(?:does|is\\\\s+not|says?)'
    """
    return "(?:" + "|".join(" ".join(lines).split()).replace("_", r"\s+") + ")"
