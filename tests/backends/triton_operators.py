"""What PyTorch has to accept of the operators; fails where it does not.

    python triton_operators.py cpu | cuda

On the CPU Triton interprets.
"""

import sys

from softcert.backends.triton_.interpreter import interpret_kernels

DEVICE = sys.argv[1]
if DEVICE == "cpu":
    interpret_kernels()

import torch  # noqa: E402 - it would import Triton for its compiler
from torch.library import opcheck  # noqa: E402

from softcert.backends.triton_.attention import Packing  # noqa: E402
from softcert.backends.triton_.library import (  # noqa: E402
    flash_attention,
    flash_attention_varlen,
    softmax,
)

torch.set_default_device(DEVICE)
torch.manual_seed(0)


def random(*shape):
    return torch.randn(*shape, requires_grad=True)


def gradients_are_those_of_pytorch():
    q, k, v, slope = (
        random(2, 4, 20, 32),
        random(2, 2, 30, 32),
        random(2, 2, 30, 16),
        torch.randn(2, 4, 20, 16),
    )
    mask = torch.rand(20, 30) < 0.8
    out, lse = flash_attention(q, k, v, mask=mask)
    assert not lse.requires_grad
    # Each in its own words, at once: PyTorch's operator takes fewer heads of k and v when it is told.
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(
        torch.autograd.grad(out, (q, k, v), slope),
        torch.autograd.grad(expected, (q, k, v), slope),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    x, slope = random(5, 40), torch.randn(5, 40)
    (got,) = torch.autograd.grad(softmax(x), x, slope)
    torch.testing.assert_close(got, torch.autograd.grad(torch.softmax(x, -1), x, slope)[0])


def operators_keep_the_rules_of_the_library():
    q, k = random(1, 4, 20, 32), random(1, 2, 30, 32)
    opcheck(torch.ops.softcert.flash_attention, (q, k, k, None, None, None, 0, 0, 0.3, "none", "ieee"))
    opcheck(torch.ops.softcert.softmax, (random(5, 40), 0))


def a_compiled_program_gives_the_same_bits():
    q, k = random(1, 4, 20, 32), random(1, 2, 30, 32)

    def loss(q, k):
        return flash_attention(q, k, k, causal="top-left")[0].square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for got, wanted in zip(
        torch.autograd.grad(compiled(q, k), (q, k)), torch.autograd.grad(loss(q, k), (q, k)), strict=True
    ):
        assert torch.equal(got, wanted)


def packed_sequences_are_those_apart():
    q_starts, k_starts = (torch.tensor(s, dtype=torch.int32) for s in ([0, 5, 5, 22], [0, 9, 13, 29]))
    q, k, v = random(22, 4, 32), random(29, 2, 32), random(29, 2, 16)
    slope = torch.randn(22, 4, 16)
    for causal in ("none", "bottom-right", "top-left"):
        out, _ = flash_attention_varlen(q, k, v, Packing(q_starts, k_starts, 17, 16), causal=causal)
        apart = [
            flash_attention(
                q[a:b].transpose(0, 1)[None],
                k[c:d].transpose(0, 1)[None],
                v[c:d].transpose(0, 1)[None],
                causal=causal,
            )[0][0].transpose(0, 1)
            for a, b, c, d in zip(q_starts[:-1], q_starts[1:], k_starts[:-1], k_starts[1:], strict=True)
        ]
        expected = torch.cat(apart)
        assert torch.equal(out, expected)
        for got, wanted in zip(
            torch.autograd.grad(out, (q, k, v), slope),
            torch.autograd.grad(expected, (q, k, v), slope),
            strict=True,
        ):
            assert torch.equal(got, wanted)


gradients_are_those_of_pytorch()
operators_keep_the_rules_of_the_library()
a_compiled_program_gives_the_same_bits()
packed_sequences_are_those_apart()
