"""PyTorch's attention on the CPU, flash and unfused, forward and backward, is within the bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.conformance.bounds.attention_arithmetic import attention_arithmetic
from softcert.conformance.bounds.attention_backward import Cotangents, attention_backward_bounds
from softcert.conformance.bounds.attention_forward import attention_bounds
from softcert.conformance.inputs.attention_families import KINDS, Shape, make_operands

torch = pytest.importorskip("torch")

DTYPES = ("bfloat16", "float16", "float32")
DOUBLE = attention_arithmetic(Contract(), "float64")


def called(operands, dtype, dout, backend, *, causal):
    """out, dq, dk and dv of torch, in float64."""
    kind = getattr(torch, dtype)
    q, k, v = (
        torch.tensor(x, dtype=kind)[None].requires_grad_() for x in (operands.q, operands.k, operands.v)
    )
    groups = operands.sharing
    shared = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    with torch.nn.attention.sdpa_kernel(getattr(torch.nn.attention.SDPBackend, backend)):
        out = torch.nn.functional.scaled_dot_product_attention(q, *shared, is_causal=causal)
    out.backward(torch.tensor(dout, dtype=kind)[None])
    return [x.detach()[0].double().numpy() for x in (out, q.grad, k.grad, v.grad)]


def arithmetic_of(dtype, backend, queries):
    """What the flash kernel has to declare: it adds each block's part to gradients stored in 16 bits."""
    a = attention_arithmetic(Contract(), dtype)
    if backend == "MATH" or dtype == "float32":
        return a
    return replace(a, gradient_block=32 if queries < 192 else 64 if queries < 768 else 256)


def ratios(program, kind, dtype, backend, shape, *, causal):
    operands = make_operands(kind, dtype, shape, causal="top-left" if causal else False)
    dout = program.cotangent(dtype, operands)
    a = arithmetic_of(dtype, backend, shape.queries)
    return ratios_of(program, operands, dout, dtype, backend, a, causal=causal)


def ratios_of(program, operands, dout, dtype, backend, a, *, causal):
    forward, own_forward = attention_bounds(operands, a), attention_bounds(operands, DOUBLE)
    ideal = Cotangents(forward.exact_out, forward.exact_lse, dout)
    backward = attention_backward_bounds(operands, ideal, a, forward)
    own = attention_backward_bounds(operands, ideal, DOUBLE, own_forward)
    exact = (forward.exact_out, *program.exact_gradients(operands, ideal))
    bounds = (forward.out, backward.dq, backward.dk, backward.dv)
    owns = (own_forward.out, own.dq, own.dk, own.dv)
    computed = called(operands, dtype, dout, backend, causal=causal)
    return [program.worst_ratio(*four) for four in zip(computed, exact, bounds, owns, strict=True)]


@pytest.mark.parametrize("backend", ["FLASH_ATTENTION", "MATH"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_is_within_the_bounds(simulated, dtype, backend):
    worst = np.zeros(4)
    for n, kind in enumerate(KINDS):
        shape = Shape(heads=4, groups=2 if n % 2 else 4, queries=65, keys=97, features=32, values=32)
        found = ratios(simulated.program, kind, dtype, backend, shape, causal=n % 3 == 1)
        assert max(found) <= 1.0, (kind, found)
        worst = np.maximum(worst, found)
    assert (worst > (0.004 if dtype == "float32" else 0.1)).all(), worst


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["FLASH_ATTENTION", "MATH"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_torch_is_within_the_bounds_on_long_rows(simulated, kind, dtype, backend):
    found = ratios(simulated.program, kind, dtype, backend, Shape(1, 1, 1024, 1024, 64, 64), causal=False)
    assert max(found) <= 1.0, found


@pytest.mark.parametrize("backend", ["FLASH_ATTENTION", "MATH"])
def test_gradients_that_are_summed_in_16_bits_need_a_declaration(simulated, backend):
    """32 equal parts of dv, each of which bfloat16 rounds down once it is added to 16 or more of them."""
    operands = make_operands("ties", "bfloat16", Shape(1, 1, 32 * 256, 64, 16, 16))
    dout = np.full(operands.q.shape, 1.0546875)
    strict = attention_arithmetic(Contract(), "bfloat16")
    found = [
        ratios_of(simulated.program, operands, dout, "bfloat16", backend, a, causal=False)
        for a in (strict, replace(strict, gradient_block=256))
    ]
    assert max(found[1]) <= 1.0
    if backend == "MATH":
        assert max(found[0]) <= 1.0
    else:
        assert found[0][3] > 1.5
