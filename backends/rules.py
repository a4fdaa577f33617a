"""What a value may be, said once: the test, and the words of the sentence that refuses another value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import NamedTuple, cast

from softcert.errors import SoftcertError

_LONGEST_SHOWN = 60


class Rule(NamedTuple):
    """Which values are allowed.

    Attributes
    ----------
    allows : whether a value is one of them; whatever it raises, the value is not.
    words : what has to be given, to follow "has to be".
    """

    allows: Callable[[object], bool]
    words: str


def one_of(*values: object) -> Rule:
    """Rule of a few values, compared with their types, so that 1 is not True."""
    shown = [str(value) if value is None else repr(value) for value in values]
    words = f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else shown[0]
    return Rule(lambda value: any(type(value) is type(v) and value == v for v in values), words)


def instance_of(kinds: type | tuple[type, ...], words: str) -> Rule:
    """Rule of some types, which `words` describes."""
    return Rule(lambda value: isinstance(value, kinds), words)


def integer(least: int, largest: int, words: str) -> Rule:
    """Rule of the integers from `least` to `largest`; True and False are none."""

    def allows(value: object) -> bool:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and least <= int(cast("int", value)) <= largest

    return Rule(allows, words)


def _is_positive(value: object) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and 0.0 < float(cast("float", value)) < math.inf


#: True or False.
SWITCH = instance_of(bool, "True or False")
#: A number above zero that is a finite binary64.
POSITIVE = Rule(_is_positive, "a positive number")


def require(
    rules: Mapping[str, Rule],
    values: Mapping[str, object],
    refusal: type[SoftcertError],
    kind: str = "",
) -> None:
    """Refuse the first value that its rule does not allow.

    Parameters
    ----------
    kind : what the names are names of, as it goes before one.

    Raises
    ------
    refusal : a name without a rule, with the nearest that has one; or a value that is not allowed.
    """
    for name, value in values.items():
        if name not in rules:
            raise refusal(unknown(f"{kind} {name!r}".strip(), str(name), rules, f"the {kind}s are"))
        rule = rules[name]
        if not _allowed(rule, value):
            raise refusal(f"{f'{kind} {name}'.strip()} has to be {rule.words}, not {shown(value)}")


def _allowed(rule: Rule, value: object) -> bool:
    try:
        return bool(rule.allows(value))
    except Exception:  # noqa: BLE001 - a foreign value's own operators may raise anything
        return False


def unknown(what: str, name: str, known: Iterable[str], otherwise: str) -> str:
    """One sentence that says a name is unknown, and the nearest one, or all of them after `otherwise`."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"{otherwise} {', '.join(names)}"
    return f"{what} is unknown; {hint}"


def shown(value: object) -> str:
    """One short line for any value."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - a foreign __repr__ may raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def names_in(value: object, what: str, refusal: type[SoftcertError]) -> tuple[str, ...] | None:
    """Names from one name or several, each once; None stays None.

    Raises
    ------
    refusal : something else than strings.
    """
    if value is None:
        return None
    # A lone string is one name: iterated, it would be its letters.
    lone = isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable)
    given: tuple[object, ...] = (value,) if lone else tuple(cast("Iterable[object]", value))
    names = [name for name in given if isinstance(name, str)]
    if len(names) < len(given):
        raise refusal(f"{what} has to be a name or a list of names, not {shown(value)}")
    return tuple(dict.fromkeys(names))
