"""ONNX Runtime's Softmax, LogSoftmax, ReduceLogSumExp and Attention, each in a graph of that one operator.

The CPU provider has no kernel of them for bfloat16. Attention is that of opset 23; without a cache its causal
mask is aligned top-left, as the standard says, and a query that sees no key gets 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.types import Array, Backend, Kernel

_DTYPES = ("float64", "float32", "float16")
#: First version of the standard that has Attention; the others have not changed in it.
_OPSET = 23
#: The file format of that version.
_IR_VERSION = 11
#: Sessions kept; each holds threads of its own, and a scale or an axis needs a new one.
_KEPT = 32


def onnxruntime_backend() -> Backend:
    """Backend `onnxruntime`: operators of the ONNX standard on the CPU provider."""
    import onnx
    import onnxruntime

    return Backend(
        name="onnxruntime",
        ops={
            "softmax": _along_axis("Softmax"),
            "log_softmax": _along_axis("LogSoftmax"),
            "logsumexp": _logsumexp,
            "attention": _attention,
        },
        dtypes=_DTYPES,
        contract=Contract(causal="top-left"),
        versions={"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
    )


def _along_axis(operator: str) -> Kernel:
    def kernel(x: Array, axis: int = -1) -> Array:
        return _run(operator, {"x": x}, axis=axis)

    return kernel


def _logsumexp(x: Array, axis: int = -1) -> Array:
    return _run("ReduceLogSumExp", {"x": x, "axes": np.array([axis], dtype=np.int64)}, keepdims=0)


def _attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    if q.ndim > 4:
        raise ValueError(f"the operator Attention takes one axis of batches, not {q.ndim - 3}")
    inputs = {name: a[(None,) * (4 - a.ndim)] for name, a in (("Q", q), ("K", k), ("V", v))}
    if mask is not None:
        inputs["attn_mask"] = mask
    attributes: dict[str, Any] = {"is_causal": int(causal)} | (
        {} if scale is None else {"scale": float(scale)}
    )
    return _run("Attention", inputs, **attributes).reshape(*q.shape[:-1], v.shape[-1])


def _run(operator: str, inputs: dict[str, Array], **attributes: Any) -> Array:
    """The one result of an operator."""
    signature = tuple((name, a.dtype.name, a.ndim) for name, a in inputs.items())
    session = _session(operator, signature, tuple(sorted(attributes.items())))
    result: Array = session.run(None, inputs)[0]
    return result


@lru_cache(maxsize=_KEPT)
def _session(
    operator: str, signature: tuple[tuple[str, str, int], ...], attributes: tuple[tuple[str, Any], ...]
) -> Any:
    """Session of a graph that holds one operator, of operands of any shape."""
    import onnxruntime
    from onnx import helper

    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [None] * ndim)
        for name, dtype, ndim in signature
    ]
    result = helper.make_empty_tensor_value_info("result")
    node = helper.make_node(operator, [name for name, *_ in signature], ["result"], **dict(attributes))
    # the element type of the result is that of the first operand, for every operator here
    result.type.tensor_type.elem_type = given[0].type.tensor_type.elem_type
    model = helper.make_model(
        helper.make_graph([node], operator, given, [result]),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
