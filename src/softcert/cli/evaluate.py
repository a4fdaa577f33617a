"""`softcert eval`: certified digits on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import gcd, inf, isfinite, isinf, lcm
from typing import TYPE_CHECKING, Any

import click

from softcert.cli.options import require_known

if TYPE_CHECKING:
    from softcert.reference import Enclosure

EXAMPLES = """
\b
Examples:
  softcert eval softmax 1 2 8 --digits 50
  softcert eval softmax 0 10 --temperature 100
  softcert eval logsumexp -1e308 1e308
  softcert eval softmax 0.1 0.2 --exact
  softcert eval log_softmax 0x1.8p-3 -0x1p+4
  softcert eval softmax_vjp 0.25 0.75 / 1 0
  softcert eval entmax 1 0.5 0 --alpha 1.25
  softcert eval cross_entropy 1 2 8 / 0 --label-smoothing 0.1
  softcert eval hierarchical_log_softmax 0.5 -1 2 / 3
"""


#: Options that take a word starting with two dashes; anything else of that shape is a slip.
_OPTIONS = (
    "--digits",
    "--beta",
    "--temperature",
    "--alpha",
    "--label-smoothing",
    "--z-loss",
    "--exact",
    "--help",
)
#: Exponents of exact decimals beyond it would only fill the memory.
_LARGEST_EXPONENT = 5000


# Unknown options are left to the arguments, so that -1 and -inf are numbers.
@click.command("eval", epilog=EXAMPLES, context_settings={"ignore_unknown_options": True})
@click.argument("op")
@click.argument("numbers", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--digits", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Significant digits."
)
@click.option("--beta", metavar="B", help="Inverse temperature of softmax.")
@click.option("--temperature", metavar="T", help="Temperature of softmax; beta is its exact reciprocal.")
@click.option("--alpha", metavar="A", help="Order of entmax and its derivative; 1.5 by default.")
@click.option("--label-smoothing", metavar="S", help="Label smoothing of cross_entropy and its derivative.")
@click.option("--z-loss", metavar="Z", help="Factor of their z-loss, the square of logsumexp.")
@click.option(
    "--exact", is_flag=True, help="Read each number as the exact decimal or fraction that is written."
)
def evaluate(
    op: str,
    numbers: tuple[str, ...],
    digits: int,
    beta: str | None,
    temperature: str | None,
    exact: bool,
    **options: str | None,
) -> None:
    """Print OP of NUMBERS in decimal digits, every one of them proven.

    Each number, a decimal or a hexadecimal float such as 0x1.8p-3, is read as the binary64 float
    nearest to it, as any program would read it; with --exact it is the decimal or fraction itself. An
    op of several operands takes them with a / between: logits / class for a loss; scores of the nodes of a
    balanced tree / class for the hierarchical softmax.
    """
    from softcert import reference
    from softcert.backends.ops import OPERANDS, SAMPLERS

    require_known("op", [op], OPERANDS)
    if op in SAMPLERS:
        raise click.UsageError(f"{op} draws its result, which so has no digits to print")
    operands = _operands(op, numbers)
    factor = _inverse_temperature(op, beta, temperature, exact)
    keywords = _keywords(op, options)
    try:
        if exact:
            floats, scale = _over_common_denominator(op, operands)
            value = reference.softmax(floats, beta=factor * scale)
        elif op == "softmax":
            value = reference.softmax([read_float(word) for word in operands[0]], beta=factor)
        else:
            named = zip(_names(op), operands, strict=True)
            value = _value(op, [_numbers(*each) for each in named], keywords)
        for line in value.digits(digits).ravel():
            click.echo(line)
    except reference.DomainError as error:
        raise click.UsageError(str(error)) from error


def _names(op: str) -> tuple[str, ...]:
    """Return the names of the operands that are given: a tree is balanced."""
    from softcert.backends.ops import OF_TREES, OPERANDS

    return tuple(name for name in OPERANDS[op] if name not in OF_TREES)


def _value(op: str, operands: list[Any], keywords: Mapping[str, float]) -> Enclosure:
    """Return the enclosure of an op of one row."""
    from softcert import reference
    from softcert.backends.ops import has_tree

    if not has_tree(op):
        value: Enclosure = getattr(reference, op)(*operands, **keywords)
        return value
    scores, leaf, *slope = operands
    last = [[number] for number in (*slope, leaf)]
    leaf_of: Callable[..., Enclosure] = getattr(reference, op)
    return leaf_of(scores, *last, *reference.balanced_tree(len(scores) + 1))


def _operands(op: str, words: tuple[str, ...]) -> list[list[str]]:
    """Return the words of each operand of `op`."""
    from softcert.backends.ops import ONE_A_ROW

    operands: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            raise click.NoSuchOption(word, possibilities=difflib.get_close_matches(word, _OPTIONS))
        if word == "/":
            operands.append([])
        else:
            operands[-1].append(word)
    names = _names(op)
    if len(operands) != len(names):
        how = (
            "takes one operand" if len(names) == 1 else f"takes {' / '.join(names)}, with the / between them"
        )
        raise click.UsageError(f"{op} {how}, and {len(operands)} were given")
    if not all(operands):
        raise click.UsageError(f"{op} needs at least one number")
    if any(len(operand) != 1 for name, operand in zip(names, operands, strict=True) if name in ONE_A_ROW):
        raise click.UsageError(f"{op} takes one {' and one '.join(n for n in names if n in ONE_A_ROW)}")
    if len({len(o) for name, o in zip(names, operands, strict=True) if name not in ONE_A_ROW}) > 1:
        raise click.UsageError(f"the operands of {op} have to be equally long")
    return operands


def _numbers(name: str, words: list[str]) -> list[float] | float | int:
    """Return an operand of a row: its numbers, or the one that a row has.

    Raises
    ------
    click.UsageError : a word is no number, or no integer where it has to be one.
    """
    from softcert.backends.ops import INTEGERS, ONE_A_ROW

    if name not in ONE_A_ROW:
        return [read_float(word) for word in words]
    number = read_float(words[0])
    if name not in INTEGERS:
        return number
    if not number.is_integer():
        raise click.UsageError(f"the {name} is the number of a class, counted from 0, and not {words[0]}")
    return int(number)


def read_float(word: str) -> float:
    """Return the binary64 float that a decimal or hexadecimal word denotes.

    Raises
    ------
    click.UsageError : it denotes none.
    """
    hexadecimal = "0x" in word.lower()
    try:
        number = float.fromhex(word) if hexadecimal else float(word)
    except OverflowError:  # what float.fromhex raises where float gives infinity
        number = inf
    except ValueError:
        raise click.UsageError(f"{word!r} is not a number") from None
    if isinf(number) and not word.strip().lstrip("+-").lower().startswith("inf"):
        raise click.UsageError(f"{word!r} is beyond the largest float64")
    return number


def read_fraction(word: str) -> Fraction:
    """Return the exact number that a decimal or fraction denotes.

    Raises
    ------
    click.UsageError : it denotes none, or more digits than are needed for anything.
    """
    mantissa, _, exponent = word.lower().partition("e")
    try:
        Fraction(mantissa)
        far = bool(exponent) and abs(int(exponent)) > _LARGEST_EXPONENT
        number = None if far else Fraction(word)
    except (ValueError, ZeroDivisionError):
        raise click.UsageError(f"{word!r} is not a decimal number or fraction") from None
    if number is None:
        raise click.UsageError(f"--exact takes exponents up to {_LARGEST_EXPONENT}, and {word!r} has more")
    return number


def _over_common_denominator(op: str, operands: list[list[str]]) -> tuple[list[float], Fraction]:
    """Return floats and a factor whose products are the exact numbers.

    Raises
    ------
    click.UsageError : the op has no factor, or the numbers span more than binary64 holds.
    """
    if op != "softmax":
        raise click.UsageError(f"--exact is for softmax, not {op}")
    fractions = [read_fraction(word) for word in operands[0]]
    denominator = lcm(*(f.denominator for f in fractions))
    integers = [f.numerator * (denominator // f.denominator) for f in fractions]
    divisor = gcd(*integers) or 1
    integers = [n // divisor for n in integers]
    try:
        floats = [float(n) for n in integers]
    except OverflowError:
        floats = []
    if [int(f) for f in floats] != integers:
        raise click.UsageError("these numbers span too many digits to be taken exactly")
    return floats, Fraction(divisor, denominator)


def _keywords(op: str, options: Mapping[str, str | None]) -> dict[str, float]:
    """Return the keywords of the op that options ask for.

    Raises
    ------
    click.UsageError : one is no number, or the op takes none of that name.
    """
    from softcert.backends.ops import ROW_OPTIONS

    given = {name: word for name, word in options.items() if word is not None}
    for name in given:
        if name not in ROW_OPTIONS.get(op, {}):
            having = " and ".join(known for known, taken in ROW_OPTIONS.items() if name in taken)
            raise click.UsageError(f"--{name.replace('_', '-')} is for {having}, not {op}")
    return {name: read_float(word) for name, word in given.items()}


def _inverse_temperature(op: str, beta: str | None, temperature: str | None, exact: bool) -> Fraction:
    """Return the exact inverse temperature that the options ask for.

    Raises
    ------
    click.UsageError : both are given, one is no finite number, or the op takes none.
    """
    if beta is None and temperature is None:
        return Fraction(1)
    if op != "softmax":
        raise click.UsageError(f"--beta and --temperature are for softmax, not {op}")
    if beta is not None and temperature is not None:
        raise click.UsageError("--beta and --temperature exclude each other")
    name, word = ("beta", beta) if beta is not None else ("temperature", temperature or "")
    value: Fraction | float = read_fraction(word) if exact else read_float(word)
    if not isfinite(value):
        raise click.UsageError(f"the {name} has to be finite, not {word}")
    if name == "beta":
        return Fraction(value)
    if value <= 0:
        raise click.UsageError(f"the temperature has to be positive, not {word}")
    return 1 / Fraction(value)
