"""Functions of other conventions become kernels: axis, operands, ranks, kinds of arrays."""

import functools

import numpy as np
import pytest

from softcert.backends import SubjectError, as_dtype
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.convert import NotAnArrayError


def soft(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


CUBE = np.random.default_rng(1).normal(size=(2, 3, 4))


def axis_default_none(x, axis=None):
    return soft(x, axis)


def keyword_only(x, *, axis):
    return soft(x, axis)


def axis_first(axis, x):
    return soft(x, axis)


def positional_only(x, axis, /):
    return soft(x, axis)


def all_positional_only(x, axis=-1, eps=0.0, beta=1.0, /):
    assert eps == 0.0
    return soft(beta * x, axis)


def into_a_buffer(out, x, axis=-1):
    assert np.isnan(out).all()
    out[...] = soft(x, axis)


def into_a_buffer_and_back(x, *, out, axis=-1):
    out[...] = soft(x, axis)
    return out


def cube(x):
    batch, rows, _ = x.shape
    return np.stack([np.stack([soft(x[b, r]) for r in range(rows)]) for b in range(batch)]) if x.size else x


def heads(x):
    batch, head, rows, n = x.shape
    return soft(x.reshape(-1, n)).reshape(batch, head, rows, n)


def called_dim(logits, dim=0):
    return soft(logits, dim)


def operand_by_keyword(*, logits, axis=-1):
    return soft(logits, axis)


def last_axis_only(x):
    return soft(x)


def undocumented(*args, **kwargs):
    return axis_default_none(*args, **kwargs)


def undocumented_without_axis(*args):
    return soft(*args)


def vector(x):
    if np.ndim(x) != 1:
        raise ValueError("a vector, please")
    return soft(x)


def matrix(x):
    rows, _ = x.shape
    return np.stack([soft(x[k]) for k in range(rows)]) if rows else x.copy()


def python_loop(xs):
    top = max(xs)
    terms = [np.exp(v - top) for v in xs]
    return [t / sum(terms) for t in terms]


def python_list(xs):
    if not xs:
        return []
    terms = [np.exp(v - max(xs)) for v in xs]
    return [t / sum(terms) for t in terms]


class CallableObject:
    def __call__(self, x, axis=-1):
        return soft(x, axis)


FUNCTIONS = [
    axis_default_none,
    keyword_only,
    axis_first,
    positional_only,
    all_positional_only,
    into_a_buffer,
    into_a_buffer_and_back,
    cube,
    heads,
    called_dim,
    operand_by_keyword,
    last_axis_only,
    undocumented,
    undocumented_without_axis,
    vector,
    matrix,
    python_loop,
    python_list,
    CallableObject(),
    functools.partial(soft, axis=0),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: getattr(f, "__name__", type(f).__name__))
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_every_convention_gives_the_same_softmax(function, axis):
    kernel = AdaptedKernel(function, "softmax")
    np.testing.assert_allclose(kernel(CUBE, axis=axis), soft(CUBE, axis), rtol=1e-14)
    np.testing.assert_allclose(kernel(CUBE[0, 0]), soft(CUBE[0, 0]), rtol=1e-14)
    assert kernel(CUBE.astype(np.float32)).dtype == np.float32
    assert kernel(np.empty((0, 4))).shape == (0, 4)


def test_reductions_without_an_axis():
    def lse(x):
        if x.ndim != 1:
            raise TypeError("a vector, please")
        return float(np.log(np.exp(x).sum()))

    kernel = AdaptedKernel(lse, "logsumexp")
    result = kernel(CUBE, axis=1)
    np.testing.assert_allclose(result, np.log(np.exp(CUBE).sum(1)), rtol=1e-14)
    assert kernel(CUBE[0, 0]).shape == ()
    assert kernel(CUBE.astype(np.float32)).dtype == np.float32
    assert kernel(np.empty((0, 4))).shape == (0,)


def test_what_a_function_refuses_stays_refused():
    def two_dimensions_at_most(x):
        if x.ndim > 2:
            raise ValueError("too many dimensions")
        return soft(x)

    with pytest.raises(ValueError, match="too many dimensions"):
        AdaptedKernel(two_dimensions_at_most, "softmax")(CUBE)


def test_a_refused_dtype_does_not_decide_for_the_others():
    def float32_vectors(*args):
        (x,) = args
        if x.dtype != np.float32 or x.ndim != 1:
            raise TypeError("float32 vectors, please")
        return soft(x)

    kernel = AdaptedKernel(float32_vectors, "softmax")
    with pytest.raises(TypeError, match="float32 vectors"):
        kernel(CUBE)
    np.testing.assert_allclose(kernel(CUBE.astype(np.float32)), soft(CUBE), rtol=1e-5)


def test_two_operands_by_position_or_by_their_names():
    def gradient(output, grad, dim):
        return output * (grad - (output * grad).sum(dim, keepdims=True))

    def swapped(dy, y):
        return gradient(y, dy, -1)

    y, dy = soft(CUBE), CUBE[::-1]
    for function in (gradient, swapped):
        np.testing.assert_array_equal(AdaptedKernel(function, "softmax_vjp")(y, dy), gradient(y, dy, -1))


def test_beta_is_passed_only_where_it_is_known():
    def with_beta(x, axis=-1, beta=3.0):
        return soft(beta * x, axis)

    kernel = AdaptedKernel(with_beta, "softmax")
    assert kernel.beta
    np.testing.assert_allclose(kernel(CUBE, beta=0.5), soft(0.5 * CUBE), rtol=1e-14)
    # Without one, the function's own default must not decide.
    np.testing.assert_allclose(kernel(CUBE), soft(CUBE), rtol=1e-14)
    without = AdaptedKernel(soft, "softmax")
    assert not without.beta
    with pytest.raises(TypeError, match="softmax takes no beta"):
        without(CUBE, beta=2.0)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: None, "no place for the operand"),
        (lambda y: y, r"no place for the operands \(y, dy\) of softmax_vjp"),
        (lambda y, dy, eps: y, "requires an argument 'eps'"),
    ],
)
def test_signatures_that_cannot_be_the_op(function, words):
    with pytest.raises(SubjectError, match=words):
        AdaptedKernel(function, "softmax_vjp")


def test_wrong_results_pass_unchanged():
    def widened(x, axis=-1):
        return soft(x, axis).astype(np.float64)

    def squeezed(x, axis=-1):
        return soft(x, axis)[..., :1]

    x = CUBE.astype(np.float32)
    assert AdaptedKernel(widened, "softmax")(x).dtype == np.float64
    assert AdaptedKernel(squeezed, "softmax")(x).shape == (2, 3, 1)


def test_rows_of_different_lengths_are_no_array():
    def ragged(x):
        if x.ndim != 1:
            raise TypeError("a vector, please")
        return x[x > 0]

    with pytest.raises(NotAnArrayError, match="different shapes"):
        AdaptedKernel(ragged, "softmax")(np.array([[1.0, -1.0], [1.0, 1.0]]))


def test_torch_functions_get_tensors():
    torch = pytest.importorskip("torch")

    def by_hand(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
        e = (x - x.amax(dim, keepdim=True)).exp()
        return e / e.sum(dim, keepdim=True)

    def plain(x):
        return (x - x.max(-1, keepdim=True).values).softmax(-1)

    module = torch.nn.Softmax(dim=-1)
    for function in (torch.softmax, torch.nn.functional.softmax, by_hand, plain, module):
        kernel = AdaptedKernel(function, "softmax")
        np.testing.assert_allclose(kernel(CUBE), soft(CUBE), rtol=1e-13)
        half = CUBE.astype(as_dtype("bfloat16"))
        assert kernel(half).dtype == half.dtype
        # Torch has no negative strides.
        np.testing.assert_allclose(kernel(CUBE[:, ::-1, ::-1]), soft(CUBE[:, ::-1, ::-1]), rtol=1e-13)


def test_operands_of_derivatives_are_known_by_their_names():
    def backward(grad_output, output, dim):
        return output * (grad_output - (output * grad_output).sum(dim, keepdims=True))

    def unnamed(a, b):
        return a * (b - (a * b).sum(-1, keepdims=True))

    y, dy = soft(CUBE), CUBE[::-1]
    expected = y * (dy - (y * dy).sum(-1, keepdims=True))
    for function in (backward, unnamed):
        np.testing.assert_array_equal(AdaptedKernel(function, "softmax_vjp")(y, dy, axis=-1), expected)


def test_a_buffer_for_logsumexp_lacks_the_axis():
    def lse(x, out):
        out[...] = np.log(np.exp(x).sum(-1))

    assert AdaptedKernel(lse, "logsumexp")(CUBE, axis=0).shape == (3, 4)
