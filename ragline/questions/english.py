"""As much English as asking needs: verb forms, and turning statements round."""

import re

from ragline.text import word_tokens

VERBS = frozenset(
    """
    accept access accumulate activate add adjust advance aggregate align allocate allow alter analyze annotate append
    apply archive arrange ask assemble assert assign assume attach attempt authenticate average avoid backup bind
    block bootstrap broadcast browse build bundle buy calculate call cancel capitalize cast center change check
    choose clean clear clip close coerce collapse collect color combine compare compile compress compute concatenate
    configure confirm conform connect consider construct contact control convert copy count create customize cut debug
    decode decompose decorate decrease deduplicate define delete deploy derive describe detach detect determine
    disable discretize display dissolve divide download draw drop duplicate edit embed emit enable encode enforce
    enlarge ensure enter estimate evaluate examine exclude execute expand explode export expose extend extract
    factorize fetch fill filter find fit flag flatten flush fold follow force form format forward generate get give
    group guarantee guess handle help hide highlight identify ignore impersonate implement import include increase
    increment index indicate infer initialize insert inspect install instantiate interpolate intersect introspect invert
    invite iterate join keep label launch limit link list load localize locate lock log make manage map mark mask
    match measure melt merge migrate modify monitor move mutate name normalize observe obtain offset open order
    organize output override pad parse partition pass pause pay perform persist pick pickle pivot place plot pop
    prefix prepare preserve prevent print process produce protect provide publish put query raise rank read rearrange
    reassign rebuild receive recompute reduce refer refresh register reindex relabel release reload remove rename
    render reorder repeat replace report represent request require resample reset reshape resize resolve respect
    restart restore restrict retrieve return reuse reverse revert review rewrite roll rotate round run sample save
    scale schedule search select send separate serialize set share shift ship show shuffle simplify skip slice snap sort
    specify split squeeze stack standardize start stop store strip style submit subtract sum summarize support
    suppress swap switch synchronize take test toggle track train transfer transform translate transpose treat trim
    truncate try tune turn uninstall unpack unpivot unregister unstack update upgrade upload use validate verify
    view visualize wait warn wrap write yield
    """.split()
)
"""Verbs in whose imperative a docstring, a heading or a step begins."""

_NEVER_AFTER_A_VERB = frozenset("of for is are was".split())
_MAYBE_NOUNS = frozenset(
    "bootstrap display format index label name order process return sample search sort test type".split()
)
_AFTER_A_NOUN = frozenset(
    """
    code function key keys label labels name names number object order plot string strings to type types value values
    """.split()
)
_NOUNS_TOO = frozenset("color fill flag increment key label limit list mask offset place process query store".split())
_MAKES_A_NOUN = re.compile(r"(?:value )?to\b|that\b|which\b|\w+ing\b")
"""'Increment to use', 'Fill value to use', 'Flag telling ...'."""
_DOUBLING = re.compile(r"(?:^|[^aeiou])[aeiou][bdgklmnprt]$")
_LONG = frozenset("center color format index offset open order output query render register list".split())
_GERUNDS = {"offset": "offsetting", "transfer": "transferring", "prefix": "prefixing", "swap": "swapping"}

STOP_WORDS = frozenset(
    """
    a about am an and any are as at be been being but by can could did do does for from given had has have how i if in
    into is it its me my no not of on one only or other over own should so some specified such than that the their
    them then there these they this those through to too under up use used using was we were what when where whether
    which while who why will with without would you your
    """.split()
)


def imperative(text: str) -> tuple[str, str] | None:
    """('convert', 'a to b') for 'Convert a to b', 'Converts a to b' and 'Lazily convert a to b'.

    None where no known verb begins the text.
    """
    first, _, rest = text.partition(" ")
    if first.endswith("ly") and first.lower() not in VERBS:
        first, _, rest = rest.partition(" ")
    word = first.lower()
    verb = next((v for v in (word, word[:-1], word[:-2], word[:-3] + "y") if v in VERBS and _inflects(v, word)), None)
    rest = rest.strip()
    if verb is None or not rest or rest.startswith((":", "(")):
        return None
    after = rest.split()[0].lower().strip(":,")
    if after in _NEVER_AFTER_A_VERB or (verb in _MAYBE_NOUNS and after in _AFTER_A_NOUN):
        return None
    if verb in _NOUNS_TOO and _MAKES_A_NOUN.match(rest):
        return None
    return verb, rest


def _inflects(verb: str, word: str) -> bool:
    return word in (verb, third_person(verb))


def third_person(verb: str) -> str:
    """'adds' for 'add'."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh")) else "s")


def is_third_person(word: str) -> bool:
    """Whether the word is one of the verbs with the -s of 'it adds'."""
    return word.lower() in _THIRD_PERSONS


def gerund(verb: str) -> str:
    """'adding' for 'add'."""
    if verb in _GERUNDS:
        return _GERUNDS[verb]
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        return verb[:-1] + "ing"
    short = len(re.findall(r"[aeiou]+", verb)) == 1
    return verb + (verb[-1] if short and verb not in _LONG and _DOUBLING.search(verb) else "") + "ing"


def base_form(word: str) -> str | None:
    """'add' for 'adding'; None for what is no known verb in -ing."""
    return _FROM_GERUND.get(word.lower())


_FROM_GERUND = {gerund(verb): verb for verb in sorted(VERBS)}
_THIRD_PERSONS = frozenset(third_person(verb) for verb in VERBS)


def content_words(text: str) -> list[str]:
    """The words that carry a question's meaning, in order."""
    return [word for word in word_tokens(text) if word not in STOP_WORDS]


def lower_first(text: str) -> str:
    """Without the capital of a sentence's first word; names such as DataFrame and NaN keep theirs."""
    first = re.split(r"[\s,;:/=-]", text, maxsplit=1)[0]
    return text[:1].lower() + text[1:] if first[1:].islower() or first == "A" else text


def to_first_person(text: str) -> str:
    """'I want my data' for 'you want your data'."""
    text = re.sub(r"\byou(?: are|'re)\b", "I am", text, flags=re.IGNORECASE)
    text = re.sub(r"\byour\b", "my", text, flags=re.IGNORECASE)
    return re.sub(r"\byou\b", "I", text, flags=re.IGNORECASE)


def with_article(noun_phrase: str) -> str:
    """Put 'the' before a noun phrase that begins with no determiner of its own."""
    first = noun_phrase.split()[0].lower() if noun_phrase else ""
    bare = first in _DETERMINERS or _is_plural(first) or first[:1].isdigit()
    return noun_phrase if bare else f"the {noun_phrase}"


def _is_plural(noun: str) -> bool:
    return noun.endswith("s") and not noun.endswith(("is", "ss", "us"))


_DETERMINERS = frozenset(
    "a an the this that these those each every any all some both either no which what its their one two three how "
    "whether additional extra other where data information".split()
)

_SUBJECT = r"(?P<subject>(?:[^\s,;:.()]+ ){0,6}?[^\s,;:.()]+)"
_STATEMENT = re.compile(
    _SUBJECT + r" (?P<verb>is|are|can|cannot|will|must|should|does|do) (?P<negation>not )?(?P<rest>\S.*)$", re.DOTALL
)
_NO_SUBJECT = frozenset(
    """
    after also although and another as assume at because before but by consider controls default defaults defines
    denotes depending determines did do does don't equivalent even exception for given he hence her here his how
    however i if in indicates instead it its let like my not note number on once only or other others otherwise our
    passing please providing return returns see setting she similar since so specifies specify specifying such suppose
    that then there these they this those though through thus to unless until uses using we what when whenever where
    whether which while who with you your
    """.split()
)
_CLAUSE = re.compile(
    r"\b(?:that|which|where|when|whether|if|indicating|is|are|will|must|can|should|has|have|does|returns|only|allowed|"
    r"e\.g)\b"
)

_NOT_NAMED = re.compile(
    r"(?:(?:all|any) |(?:all )?the )"
    r"(?:default|first|following|last|latter|other|possible|remaining|rest|same|second)\b",
    re.IGNORECASE,
)
"""Beginnings of subjects that only those know who have read what stands before."""
_LISTED = re.compile(r"[\[{('\"\d]")
_ANOTHER_CLAUSE = re.compile(r"(?:,|;|\band\b|\bor\b) [^,;]*\b(?:is|are|will|must|should)\b")


def invert(statement: str) -> str | None:
    """'Are duplicates allowed' for 'Duplicates are not allowed.'; None where the sentence is not so simple."""
    match = _STATEMENT.match(statement.rstrip(". "))
    if match is None:
        return None
    subject, verb, rest = match["subject"], match["verb"], match["rest"]
    words = subject.lower().split()
    if words[0] in _NO_SUBJECT or _CLAUSE.search(subject) or _NOT_NAMED.match(subject) or _LISTED.match(rest):
        return None
    if (
        words == ["each"]
        or _ANOTHER_CLAUSE.search(rest)
        or rest.split()[0] in ("exist", "that", "because", "why", "to")
    ):
        return None
    verb = "can" if verb == "cannot" else verb
    if verb == "must" and rest.startswith("be "):
        heads = {words[-1], words[1]} if words[0] in ("the", "all", "both") and len(words) > 1 else {words[-1]}
        plural = words[0] not in ("a", "an") and any(map(_is_plural, heads))
        return f"{'do' if plural else 'does'} {lower_first(subject)} have to {rest}"
    return f"{verb} {lower_first(subject)} {rest}"
