"""Guards: what may keep a question from being answered, or an answer from being shown.

A guard allows, with a note if it likes, changes the text, or blocks it with a reason. One that fails says nothing of
why: what it was given may stand in its error. Whether the text then passes is each guard's setting.
"""

import logging
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from ragline.errors import ConfigError
from ragline.generation.support import coverage
from ragline.types import Hit

log = logging.getLogger(__name__)

OnError = Literal["open", "closed"]
"""Whether a text passes that a guard could not check."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard says."""

    action: Literal["allow", "change", "block"]
    reason: str = ""
    """Told to the user; with `allow` as a note beside the answer."""
    text: str = ""
    """With `change`: what stands in place of the text."""


ALLOW = Verdict("allow")


@dataclass(frozen=True, slots=True)
class Claim:
    """An answer, and what it rests on."""

    question: str
    """As it was searched for."""
    text: str
    cited: tuple[Hit, ...]


Subject = TypeVar("Subject", contravariant=True)
"""A question, as text, or a `Claim`."""


class Check(Protocol[Subject]):
    """Looks at a question or at an answer."""

    def __call__(self, subject: Subject, /) -> Verdict:
        """Whatever it raises counts as a failure of the guard, not of the text."""
        ...


@dataclass(frozen=True)
class Guard(Generic[Subject]):
    """A check, and what its failure means."""

    name: str
    check: Check[Subject]
    on_error: OnError
    holds: bool = True
    """Whether it may block or change: an answer is then shown once it has passed, and not while it is being written."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A text after its guards."""

    text: str
    """Changed, where a guard has changed it; empty where one has blocked it."""
    blocked: str = ""
    """Why it was."""
    notes: tuple[str, ...] = ()


def ask_all(guards: Sequence[Guard[Subject]], text: str, subject: Callable[[str], Subject]) -> Passed:
    """One guard after the other, each on what the one before left; the first that blocks is the last.

    Args:
        subject: the text as the guards are to see it.
    """
    notes: list[str] = []
    for guard in guards:
        verdict = _verdict(guard, subject(text))
        if verdict.action == "block":
            return Passed("", verdict.reason or f"guard {guard.name}", tuple(notes))
        if verdict.action == "change":
            text = verdict.text
        if verdict.reason:
            notes.append(verdict.reason)
    return Passed(text, notes=tuple(notes))


def _verdict(guard: Guard[Subject], subject: Subject) -> Verdict:
    try:
        found = guard.check(subject)
        if not isinstance(found, Verdict) or (not guard.holds and found.action != "allow"):
            raise TypeError(f"expected a verdict, got {type(found).__name__}")
    except Exception as error:  # a guard is anybody's code, and must neither end a conversation nor speak in it
        log.warning("guard %s failed (%s): it counts as %s", guard.name, type(error).__name__, guard.on_error)
        return ALLOW if guard.on_error == "open" else Verdict("block", f"guard {guard.name} could not check it")
    return found


def grounded(at_least: float, then: Literal["note", "block"], on_error: OnError) -> Guard[Claim]:
    """Whether the passages that an answer cites hold its words; what they mean is not looked at.

    Args:
        at_least: share of the answer's words, counting repeats, in [0, 1].
        then: what happens to an answer below that.
    """

    def check(claim: Claim) -> Verdict:
        share = coverage(claim.text, "\n".join(hit.passage.encoded_text for hit in claim.cited))
        if share >= at_least:
            return ALLOW
        reason = f"{share:.0%} of its words stand in the passages that it cites, less than {at_least:.0%}"
        return Verdict("block" if then == "block" else "allow", reason)

    return Guard("grounded", check, on_error, holds=then == "block")


def hook(call: str, on_error: OnError) -> Guard[Subject]:
    """A function of one's own, named `package.module:function`; a question comes as text, an answer as a `Claim`.

    Raises:
        ConfigError: there is no such function.
    """
    try:
        check = pkgutil.resolve_name(call)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"qa.guards: expected a function as package.module:function, got {call!r}: {error}; install that package, "
            "or mend params.yaml"
        ) from None
    except Exception as error:  # anybody's code, which may do anything as it is imported
        raise ConfigError(
            f"qa.guards: {call!r}: expected a module that can be imported, got {type(error).__name__}; mend it"
        ) from error
    if not callable(check):
        raise ConfigError(f"qa.guards: expected a function, got {call!r}, which is none; mend params.yaml")
    return Guard(call, check, on_error)
