"""One element of attention, its gradient or a merge, in rational intervals from the standard library alone.

Formulas: T. Dao et al., arXiv:2205.14135 (2022), section 3 and appendix B.2, with scores s = scale q.k + bias
of the keys seen (key j by query i iff j <= i + S - L where causal), natural lse, heads of q in groups that
share one head of k and v.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from functools import reduce
from typing import Any

from exact_rows import FAR, TINY, Interval, UnknownError
from witness_record import MalformedError, Record, Tensor, read_number

#: Names of the operands and of the results of each op.
OPERANDS: Mapping[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v"),
    "attention_lse": ("q", "k", "v"),
    "attention_vjp": ("q", "k", "v", "out", "lse", "dout"),
    "attention_merge": ("out_a", "lse_a", "out_b", "lse_b"),
}
RESULTS: Mapping[str, tuple[str, ...]] = {
    "attention": ("out",),
    "attention_lse": ("out", "lse"),
    "attention_vjp": ("dq", "dk", "dv"),
    "attention_merge": ("out", "lse"),
}
_ZERO = Interval(Fraction(0), Fraction(0))
_ONE = Interval(Fraction(1), Fraction(1))


def _exactly(x: Fraction) -> Interval:
    return Interval(x, x)


def _plus(a: Interval, b: Interval) -> Interval:
    return Interval(a.lo + b.lo, a.hi + b.hi)


def _sum(parts: Iterable[Interval]) -> Interval:
    return reduce(_plus, parts, _ZERO)


def _times(a: Interval, b: Interval) -> Interval:
    ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return Interval(min(ends), max(ends))


def _by(a: Interval, factor: Fraction) -> Interval:
    return _times(a, _exactly(factor))


class _Decimals:
    """exp, ln and square root in decimal digits, whose results are within one unit of the last."""

    def __init__(self, digits: int) -> None:
        self.context = Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)
        self.unit = Fraction(10) ** (1 - digits)

    def _decimal(self, x: Fraction) -> Decimal:
        return self.context.divide(Decimal(x.numerator), Decimal(x.denominator))

    def _exp(self, x: Fraction) -> Interval:
        if x < -FAR:
            return Interval(Fraction(0), TINY)
        if x > FAR:
            raise UnknownError("a weight is too large")
        if not x:
            return _ONE
        value = Fraction(self.context.exp(self._decimal(x)))
        slack = (2 * abs(x) + 2) * self.unit
        return Interval(value * (1 - slack), value * (1 + slack))

    def exp(self, x: Interval) -> Interval:
        return Interval(self._exp(x.lo).lo, self._exp(x.hi).hi)

    def ln(self, x: Interval) -> Interval:
        """Of numbers from about 1 on: a relative slack of the argument is an absolute one of the result."""
        if x == _ONE:
            return _ZERO
        low, high = (Fraction(self.context.ln(self._decimal(end))) for end in (x.lo, x.hi))
        return Interval(low - (abs(low) + 3) * self.unit, high + (abs(high) + 3) * self.unit)

    def rooted(self, depth: int) -> Interval:
        """1/sqrt(depth)."""
        root = math.isqrt(depth)
        if root * root == depth:
            return _exactly(Fraction(1, root))
        value = Fraction(self.context.sqrt(Decimal(depth)))
        slack = 1 + 2 * self.unit
        return Interval(1 / (value * slack), slack / value)


@dataclass(frozen=True)
class _Call:
    """The operands of a call by name, and which keys a query sees."""

    tensors: Mapping[str, Tensor]
    params: Mapping[str, Any]
    mask: Tensor | None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """L, S and D."""
        q, k = self.tensors["q"].shape, self.tensors["k"].shape
        return q[-2], k[-2], q[-1]

    @property
    def heads(self) -> tuple[int, int]:
        """Heads of q, and of k and v, batches counted too."""
        return math.prod(self.tensors["q"].shape[:-2]), math.prod(self.tensors["k"].shape[:-2])

    def row(self, name: str, *place: int) -> list[Fraction]:
        """One row of an operand, (head, place) or the numbers of a head without features."""
        tensor = self.tensors[name]
        width = tensor.shape[-1]
        start = (place[0] * tensor.shape[-2] + place[1]) * width
        values = tensor.values[start : start + width]
        if not all(map(math.isfinite, values)):
            raise UnknownError(f"{name} is not finite")
        return [Fraction(v) for v in values]

    def number(self, name: str, head: int, query: int) -> Fraction:
        """lse of a query."""
        value = self.tensors[name].values[head * self.sizes[0] + query]
        if not math.isfinite(value):
            raise UnknownError(f"{name} is not finite")
        return Fraction(value)

    def seen(self, head: int, query: int) -> list[tuple[int, Fraction]]:
        """(key, what is added to its score) of every key that a query sees."""
        length, keys, _ = self.sizes
        last = query + keys - length if self.params.get("causal") else keys - 1
        biases = [self._bias(head, query, j) for j in range(keys)]
        found = [(j, b) for j, b in enumerate(biases) if j <= last and b != -math.inf]
        if not all(map(math.isfinite, (b for _, b in found))):
            raise UnknownError("a bias is not finite")
        return [(j, Fraction(b)) for j, b in found]

    def _bias(self, head: int, query: int, key: int) -> float:
        if self.mask is None:
            return 0.0
        shape = self.mask.shape
        whole = (*self.tensors["q"].shape[:-2], self.sizes[0], self.sizes[1])
        index = [*_unravelled(head, whole[:-2]), query, key][len(whole) - len(shape) :]
        value = self.mask.at([0 if n == 1 else i for i, n in zip(index, shape, strict=True)])
        return (0.0 if value else -math.inf) if self.mask.dtype == "bool" else value

    def group(self, head: int) -> int:
        """The head of k and v that a head of q shares."""
        return head * self.heads[1] // self.heads[0]

    def product(self, head: int, query: int, key: int) -> Fraction:
        """q.k of a pair."""
        pairs = zip(self.row("q", head, query), self.row("k", self.group(head), key), strict=True)
        return sum((a * b for a, b in pairs), Fraction(0))

    def scale(self, decimals: _Decimals) -> Interval:
        """The scale as an interval."""
        if self.params.get("scale") is None:
            return decimals.rooted(self.sizes[2])
        given = read_number(self.params["scale"])
        if isinstance(given, float):
            raise UnknownError("the scale is not finite")
        return _exactly(given)


def _unravelled(place: int, shape: Sequence[int]) -> list[int]:
    index: list[int] = []
    for n in reversed(shape):
        place, k = divmod(place, n)
        index.insert(0, k)
    return index


def _ravelled(index: Sequence[int], shape: Sequence[int]) -> int:
    place = 0
    for k, n in zip(index, shape, strict=True):
        place = place * n + k
    return place


def exact_result(record: Record) -> Callable[[int], Interval]:
    """The exact value of the element that a witness of attention speaks of, by digits to compute with."""
    raw = record.calls[record.position]
    op = record.op(record.position)
    operands = dict(zip(OPERANDS[op], record.operands(record.position), strict=True))
    mask = read_mask(raw["mask"]) if "mask" in raw else None
    call = _Call(operands, raw.get("params", {}), mask)
    name, index = RESULTS[op][record.result], record.index
    if op == "attention_merge":
        return lambda digits: _merged(call, name, index, _Decimals(digits))
    maker = {"out": _forward, "lse": _forward, "dq": _dq, "dk": _dk, "dv": _dv}[name]
    return lambda digits: maker(call, name, index, _Decimals(digits))


def read_mask(record: Mapping[str, Any]) -> Tensor:
    """A mask of booleans or of numbers."""
    if record["dtype"] != "bool":
        return Tensor.read(record)
    shape = tuple(int(n) for n in record["shape"])
    values = tuple(float(bool(float.fromhex(v))) for v in record["hex"])
    if len(values) != math.prod(shape):
        raise MalformedError("the mask does not fill its shape")
    return Tensor("bool", shape, values, {})


def _forward(call: _Call, name: str, index: Sequence[int], decimals: _Decimals) -> Interval:
    lead = call.tensors["q"].shape[:-2]
    head, query = _ravelled(index[: len(lead)], lead), index[len(lead)]
    seen = call.seen(head, query)
    if not seen:
        raise UnknownError("the query sees no key")
    scale, group = call.scale(decimals), call.group(head)
    parts = [(call.product(head, query, j), bias) for j, bias in seen]
    # Weights are taken relative to the largest: those of equal scores are then exactly 1.
    product, bias = max(parts, key=lambda part: scale.lo * part[0] + part[1])
    weights = [decimals.exp(_plus(_by(scale, p - product), _exactly(b - bias))) for p, b in parts]
    total = _sum(weights)
    if name == "lse":
        return _plus(_plus(_by(scale, product), _exactly(bias)), decimals.ln(total))
    values = [call.row("v", group, j)[index[-1]] for j, _ in seen]
    return _mean(weights, values, total)


def _mean(weights: Sequence[Interval], values: Sequence[Fraction], total: Interval) -> Interval:
    if len(set(values)) == 1:
        return _exactly(values[0])
    weighted = _sum(_by(w, value) for w, value in zip(weights, values, strict=True))
    return _times(weighted, Interval(1 / total.hi, 1 / total.lo))


def _slope(call: _Call, head: int, query: int, key: int) -> Fraction:
    """dP - D, which is rational."""
    group = call.group(head)
    dout, v, out = call.row("dout", head, query), call.row("v", group, key), call.row("out", head, query)
    return sum((d * (a - b) for d, a, b in zip(dout, v, out, strict=True)), Fraction(0))


def _weight(call: _Call, head: int, query: int, key: int, bias: Fraction, decimals: _Decimals) -> Interval:
    rest = _exactly(bias - call.number("lse", head, query))
    return decimals.exp(_plus(_by(call.scale(decimals), call.product(head, query, key)), rest))


def _dq(call: _Call, _name: str, index: Sequence[int], decimals: _Decimals) -> Interval:
    lead = call.tensors["q"].shape[:-2]
    head, query = _ravelled(index[: len(lead)], lead), index[len(lead)]
    group = call.group(head)
    total = _ZERO
    for j, bias in call.seen(head, query):
        factor = _slope(call, head, query, j) * call.row("k", group, j)[index[-1]]
        total = _plus(total, _by(_weight(call, head, query, j, bias, decimals), factor))
    return _times(total, call.scale(decimals))


def _pairs(call: _Call, index: Sequence[int]) -> tuple[int, list[tuple[int, int, Fraction]]]:
    """The key of an element of dk or dv, and (head, query, bias) of all that see it."""
    lead = call.tensors["k"].shape[:-2]
    group, key = _ravelled(index[: len(lead)], lead), index[len(lead)]
    sharing = call.heads[0] // call.heads[1]
    found = []
    for head in range(group * sharing, (group + 1) * sharing):
        for query in range(call.sizes[0]):
            found += [(head, query, bias) for j, bias in call.seen(head, query) if j == key]
    return key, found


def _dk(call: _Call, _name: str, index: Sequence[int], decimals: _Decimals) -> Interval:
    key, pairs = _pairs(call, index)
    total = _ZERO
    for head, query, bias in pairs:
        factor = _slope(call, head, query, key) * call.row("q", head, query)[index[-1]]
        total = _plus(total, _by(_weight(call, head, query, key, bias, decimals), factor))
    return _times(total, call.scale(decimals))


def _dv(call: _Call, _name: str, index: Sequence[int], decimals: _Decimals) -> Interval:
    key, pairs = _pairs(call, index)
    total = _ZERO
    for head, query, bias in pairs:
        factor = call.row("dout", head, query)[index[-1]]
        total = _plus(total, _by(_weight(call, head, query, key, bias, decimals), factor))
    return total


def _merged(call: _Call, name: str, index: Sequence[int], decimals: _Decimals) -> Interval:
    lead = call.tensors["lse_a"].shape
    row = _ravelled(index[: len(lead)], lead)
    parts = [(call.tensors[f"lse_{p}"].values[row], p) for p in "ab"]
    parts = [(lse, p) for lse, p in parts if lse != -math.inf]
    if not parts or not all(math.isfinite(lse) for lse, _ in parts):
        raise UnknownError("both parts are empty, or an lse is not finite")
    top = max(Fraction(lse) for lse, _ in parts)
    weights = [decimals.exp(_exactly(Fraction(lse) - top)) for lse, _ in parts]
    total = _sum(weights)
    if name == "lse":
        return _plus(_exactly(top), decimals.ln(total))
    outs = [call.tensors[f"out_{part}"] for _, part in parts]
    values = [out.values[row * out.shape[-1] + index[-1]] for out in outs]
    if not all(map(math.isfinite, values)):
        raise UnknownError("a part is not finite")
    return _mean(weights, [Fraction(v) for v in values], total)
