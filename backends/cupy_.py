"""CuPy's softmax, log_softmax and logsumexp of cupyx.scipy.special, in float64 and float32."""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.types import Array, Backend, Kernel


def cupy_backend() -> Backend:
    """Backend `cupy`: the three functions, called with the axis always given."""
    import cupy
    from cupyx.scipy import special

    cupy.zeros(1).sum().item()  # its context, whose address space would count as that of the first call

    def of(name: str) -> Kernel:
        function = getattr(special, name)

        def kernel(x: Array, axis: int = -1) -> Array:
            result: Array = cupy.asnumpy(function(cupy.asarray(x), axis=axis))
            return result

        return kernel

    return Backend(
        name="cupy",
        ops={name: of(name) for name in ("softmax", "log_softmax", "logsumexp")},
        dtypes=("float64", "float32"),
        contract=Contract(),
        versions={"cupy": cupy.__version__},
    )
