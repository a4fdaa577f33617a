"""Guarded operands: every layout holds the values, and what is done around them is seen."""

import ctypes

import numpy as np
import pytest

from softcert.backends import DTYPES, LAYOUTS, as_dtype
from softcert.backends.guarded import GuardedOperand, GuardedResult, poison_free_memory

SHAPES = [(), (1,), (5,), (3, 4), (2, 3, 4), (0,), (2, 0), (0, 3)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_layout_holds_the_values(layout, dtype, shape):
    if shape == ():
        shape = (1, 1)
    values = np.random.default_rng(0).normal(size=shape).astype(as_dtype(dtype))
    operand = GuardedOperand(values, layout)
    view = operand.fresh_view()
    assert view.dtype == values.dtype
    assert view.shape == values.shape
    assert np.ascontiguousarray(view).tobytes() == values.tobytes()
    assert not operand.modified(view)


def test_what_the_layouts_are():
    values = np.arange(12.0).reshape(3, 4)
    views = {layout: GuardedOperand(values, layout).fresh_view() for layout in LAYOUTS}
    assert views["contiguous"].flags.c_contiguous
    assert views["transposed"].flags.f_contiguous
    assert views["strided"].strides == (64, 16)
    assert views["reversed"].strides == (-32, -8)
    assert not views["broadcast"].flags.writeable
    assert all(views[layout].flags.writeable for layout in LAYOUTS if layout != "broadcast")
    assert np.isnan(np.lib.stride_tricks.as_strided(views["strided"], (23,), (8,))[1::2]).all()


@pytest.mark.parametrize(
    ("values", "strides"),
    [
        (np.tile(np.arange(3.0), (4, 1)), (0, 8)),
        (np.repeat(np.arange(4.0)[:, None], 3, axis=1), (8, 0)),
        (np.ones((2, 2)), (0, 0)),
        (np.full(5, np.nan), (0,)),
        (np.array([0.0, -0.0]), (8,)),
        (np.arange(4.0), (8,)),
    ],
)
def test_broadcast_repeats_what_is_the_same(values, strides):
    view = GuardedOperand(values, "broadcast").fresh_view()
    assert view.strides == strides
    np.testing.assert_array_equal(view, values)


def test_changes_are_seen_and_undone():
    operand = GuardedOperand(np.arange(4.0), "strided")
    view = operand.fresh_view()
    view[2] = 7.0
    assert operand.modified(view)
    operand.restore()
    assert not operand.modified(operand.fresh_view())
    assert operand.fresh_view()[2] == 2.0


@pytest.mark.parametrize("offset", [8, -8])
def test_writes_beside_the_elements_are_seen(offset):
    operand = GuardedOperand(np.arange(4.0), "strided")
    view = operand.fresh_view()
    ctypes.c_double.from_address(view.ctypes.data + offset).value = 1.0
    assert operand.modified(view)


def test_reshaping_the_callers_array_is_seen():
    operand = GuardedOperand(np.zeros((2, 3)), "contiguous")
    view = operand.fresh_view()
    view.resize((3, 2), refcheck=False)
    assert operand.modified(view)


def test_overlaps():
    operand = GuardedOperand(np.arange(4.0), "contiguous")
    assert operand.overlaps(operand.fresh_view()[1:3])
    assert not operand.overlaps(operand.fresh_view()[:0])
    assert not operand.overlaps(np.arange(4.0))


def test_memory_is_used_again():
    first = GuardedOperand(np.full(7, 3.0), "contiguous")
    address = first.fresh_view().ctypes.data
    first.release()
    assert GuardedOperand(np.zeros(7), "contiguous").fresh_view().ctypes.data == address


def test_unknown_layout():
    with pytest.raises(ValueError, match="'spiral' is not one of contiguous"):
        GuardedOperand(np.zeros(2), "spiral")


def test_freed_memory_is_poison():
    poison_free_memory(400)
    # Held together: the next blocks of that size are the poisoned ones.
    blocks = [np.empty(50) for _ in range(3)]
    assert all(np.isnan(block).all() for block in blocks)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0,), (512, 8)])
def test_a_result_begins_as_nan_and_what_is_written_before_it_is_seen(dtype, shape):
    result = GuardedResult(shape, as_dtype(dtype))
    assert (result.array.shape, result.array.dtype) == (shape, as_dtype(dtype))
    assert np.isnan(result.array.astype(float)).all()
    result.array[...] = 1.0
    assert not result.overrun()
    ctypes.memset(result.array.ctypes.data - 1, 0, 1)
    assert result.overrun()
