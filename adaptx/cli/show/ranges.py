"""What a hyperparameter takes, in words: as its field declares it, else as the comment behind it has it."""

import re
from collections.abc import Iterable

from adaptx.fields import Domain
from adaptx.values import Range

NAMES = re.compile(r'^(or )?((?:"\w+"(?:, | or )?)+)[:,]? ?')  # a comment that begins with names
BOUNDS = r"(?:each )?in [\[(][^\])]*[\])]|[≥>] \w[\w.-]*"
EITHER = "True or False"


def told(domain: Domain | None, comment: str, default: object) -> tuple[str, str]:
    """The range of a field, and its comment without it: symbol, unit, and what it is.

    Controllers check their fields themselves, which then declare no domain: their comments hold the range.
    """
    if comment == EITHER or isinstance(default, bool):
        return EITHER, comment.removeprefix(EITHER)
    names = NAMES.match(comment)
    comment = comment[names.end() :] if names else comment
    if domain is not None:
        return _domain(domain), _without(comment, "|".join(map(re.escape, _bounds(domain))))[1]
    if names:
        others = re.findall(r'"(\w+)"', names[2])
        return _one_of(dict.fromkeys([str(default), *others] if names[1] else others)), comment
    bounds, rest = _without(comment, BOUNDS)
    optional = bounds and (default is None or "None for" in comment)
    return bounds + (" or None" if optional else ""), rest


def _without(comment: str, bounds: str) -> tuple[str, str]:
    """The bounds that a clause of the comment ends with, and the comment without them."""
    found = re.search(rf"(?:^|,? )({bounds})(?=$|[,;])", comment) if bounds else None
    if found is None:
        return "", comment
    return found[1], (comment[: found.start()] + comment[found.end() :]).lstrip(",; ")


def _domain(domain: Domain) -> str:
    if domain.names:
        return _one_of(domain.names)
    if domain.span is None:
        return EITHER
    bounds = in_words(domain.span)
    if domain.several:
        bounds = " ".join(word for word in (str(domain.count or ""), "numbers", bounds) if word)
    elif domain.whole:
        bounds = f"integer {bounds}"
    return (bounds or "any number") + (" or None" if domain.optional else "")


def _bounds(domain: Domain) -> list[str]:
    """What a comment may say of the range already."""
    return [] if domain.span is None else [in_words(domain.span) or "any number"]


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(map(repr, names))}"


def in_words(span: Range) -> str:
    """≥ 0, in [0, 1), or nothing where every number is in it."""
    bounded = span.low > float("-inf"), span.high < float("inf")
    if all(bounded):
        return f"in {span}"
    if bounded[0]:
        return f"{'>' if span.open_low else '≥'} {span.low:g}"
    return f"{'<' if span.open_high else '≤'} {span.high:g}" if bounded[1] else ""
