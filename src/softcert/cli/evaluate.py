"""`softcert eval`: certified digits on the command line."""

from __future__ import annotations

from fractions import Fraction

import click

from softcert.cli.options import require_known

EXAMPLES = """
\b
Examples:
  softcert eval softmax 1 2 8 --digits 50
  softcert eval softmax 0 10 --temperature 100
  softcert eval logsumexp -1e308 1e308
  softcert eval softmax 0.1 0.2 --exact
  softcert eval softmax_vjp 0.25 0.75 / 1 0
"""


# Unknown options are left to the arguments, so that -1 and -inf are numbers.
@click.command("eval", epilog=EXAMPLES, context_settings={"ignore_unknown_options": True})
@click.argument("op")
@click.argument("numbers", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--digits", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Significant digits."
)
@click.option("--beta", metavar="B", help="Inverse temperature of softmax.")
@click.option("--temperature", metavar="T", help="Temperature of softmax; beta is its exact reciprocal.")
@click.option(
    "--exact", is_flag=True, help="Read each number as the exact decimal or fraction that is written."
)
def evaluate(
    op: str, numbers: tuple[str, ...], digits: int, beta: str | None, temperature: str | None, exact: bool
) -> None:
    """Print OP of NUMBERS in decimal digits, every one of them proven.

    Each number is read as the binary64 float nearest to it, as any program would read it; with
    --exact it is the decimal or fraction itself. An op of two operands takes them with a / between.
    """
    from softcert import reference
    from softcert.backends.types import OPERANDS

    require_known("op", [op], OPERANDS)
    operands = _operands(op, numbers, exact)
    keywords = _keywords(op, beta, temperature, exact)
    enclosure = getattr(reference, op)(*operands, **keywords)
    for line in _flat(enclosure.digits(digits)):
        click.echo(line)


def _operands(op: str, numbers: tuple[str, ...], exact: bool) -> list[list[float | Fraction]]:
    """Return the operands of `op` that the words on the command line denote."""
    from softcert.backends.types import OPERANDS

    for word in numbers:
        if word.startswith("--"):
            raise click.NoSuchOption(word)
    groups: list[list[float | Fraction]] = [[]]
    for word in numbers:
        if word == "/":
            groups.append([])
        else:
            groups[-1].append(read_number(word, exact))
    wanted = OPERANDS[op]
    if len(groups) != len(wanted):
        raise click.UsageError(
            f"{op} takes {len(wanted)} operand{'s'[: len(wanted) > 1]} ({', '.join(wanted)}), "
            f"with a / between them, not {len(groups)}"
        )
    sizes = {len(group) for group in groups}
    if sizes == {0} or 0 in sizes:
        raise click.UsageError(f"{op} needs at least one number")
    if len(sizes) > 1:
        raise click.UsageError(
            f"the operands of {op} have to be equally long, not {[len(g) for g in groups]}"
        )
    return groups


def read_number(word: str, exact: bool) -> float | Fraction:
    """Return the number that `word` denotes: a decimal or hexadecimal float, or, if `exact`, a fraction.

    Raises
    ------
    click.UsageError : it denotes none.
    """
    try:
        if exact:
            return Fraction(word)
        return float.fromhex(word) if "0x" in word.lower() else float(word)
    except (ValueError, OverflowError, ZeroDivisionError):
        kind = "a decimal number or fraction" if exact else "a number"
        raise click.UsageError(f"{word!r} is not {kind}") from None


def _keywords(op: str, beta: str | None, temperature: str | None, exact: bool) -> dict[str, float | Fraction]:
    if (beta or temperature) and op != "softmax":
        raise click.UsageError(f"--beta and --temperature are for softmax, not {op}")
    if beta is not None and temperature is not None:
        raise click.UsageError("--beta and --temperature exclude each other")
    if beta is not None:
        return {"beta": read_number(beta, exact)}
    if temperature is None:
        return {}
    value = read_number(temperature, exact)
    if not 0 < value < float("inf"):
        raise click.UsageError(f"the temperature has to be positive and finite, not {temperature}")
    return {"beta": 1 / Fraction(value)}


def _flat(digits: object) -> list[str]:
    """Return the decimal strings of a possibly nested list, in order."""
    if isinstance(digits, str):
        return [digits]
    return [line for part in list(digits) for line in _flat(part)]  # type: ignore[call-overload]  # nested lists
