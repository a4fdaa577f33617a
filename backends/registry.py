"""The registered backends: names first, code only when one is asked for.

`REGISTERED` is a literal table from names to places in this room, so that listing the names imports no
framework. Other packages add theirs through the entry-point group `softcert.backends`, each entry a
`Backend` or a function of no arguments that makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

from softcert.backends.gpu import gpu_there
from softcert.backends.types import Backend
from softcert.errors import SubjectError

GROUP = "softcert.backends"


class Registered(NamedTuple):
    """Where a backend's code is, what it needs, and how one installs that.

    Attributes
    ----------
    target : `module:function` that makes the backend, below softcert.backends.
    libraries : the modules that it imports, the one that it is about first.
    install : the command.
    distribution : what the first library is installed as, where that is not its own name.
    gpu : it computes on a GPU.
    slow : it is judged only where it is named: as one of all it would take longer than the others together.
    """

    target: str
    libraries: tuple[str, ...]
    install: str
    distribution: str = ""
    gpu: bool = False
    slow: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """The libraries that are not installed here; none of them is imported."""
        return tuple(name for name in self.libraries if find_spec(name) is None)


_NUMPY, _TORCH, _TRITON, _PEERS = (
    f"pip install {what}" for what in ("numpy", "'softcert[torch]'", "'softcert[gpu]'", "'softcert[peers]'")
)

REGISTERED: Mapping[str, Registered] = MappingProxyType(
    {
        "certified": Registered(
            "certified:certified_backend", ("flint", "mpmath"), "pip install softcert", "python-flint"
        ),
        "cupy": Registered("cupy_:cupy_backend", ("cupy",), "pip install cupy-cuda12x", gpu=True),
        "entmax": Registered("entmax_:entmax_backend", ("entmax", "torch"), _PEERS),
        "flash-attn": Registered(
            "flash_attn_:flash_attn_backend",
            ("flash_attn", "torch"),
            "pip install flash-attn --no-build-isolation",
            "flash-attn",
            gpu=True,
        ),
        "flash-attn-3": Registered(
            "flash_attn_3_:flash_attn_3_backend",
            ("flash_attn_interface", "torch"),
            "python setup.py install, in the folder hopper of github.com/Dao-AILab/flash-attention",
            "flash-attn-3",
            gpu=True,
        ),
        "jax": Registered("jax_:jax_backend", ("jax",), _PEERS),
        "liger": Registered(
            "liger_:liger_backend",
            ("liger_kernel", "torch"),
            "pip install liger-kernel",
            "liger-kernel",
            gpu=True,
        ),
        "numba": Registered("numba_.backend:numba_backend", ("numba",), "pip install numba"),
        "numpy": Registered("numpy_:numpy_backend", ("numpy",), _NUMPY),
        "numpy-naive": Registered("numpy_:naive_backend", ("numpy",), _NUMPY),
        "numpy-online": Registered("numpy_online:online_backend", ("numpy",), _NUMPY),
        "numpy-standard": Registered("numpy_standard:standard_backend", ("numpy",), _NUMPY),
        "numpy-two-pass": Registered("numpy_two_pass:two_pass_backend", ("numpy",), _NUMPY),
        "onnxruntime": Registered("onnxruntime_:onnxruntime_backend", ("onnxruntime", "onnx"), _PEERS),
        "optax": Registered("optax_:optax_backend", ("optax", "jax"), _PEERS, slow=True),
        "scipy": Registered("scipy_:scipy_backend", ("scipy",), _PEERS),
        "sklearn": Registered("sklearn_:sklearn_backend", ("sklearn",), _PEERS, "scikit-learn"),
        "torch": Registered("torch_:torch_backend", ("torch",), _TORCH),
        "torch-cuda": Registered("torch_cuda:cuda_backend", ("torch",), _TORCH, gpu=True),
        "torch-cuda-flex": Registered("torch_flex:cuda_flex_backend", ("torch",), _TORCH, gpu=True),
        "torch-cuda-sdpa-cudnn": Registered("torch_cuda:cudnn_backend", ("torch",), _TORCH, gpu=True),
        "torch-cuda-sdpa-efficient": Registered("torch_cuda:efficient_backend", ("torch",), _TORCH, gpu=True),
        "torch-cuda-sdpa-flash": Registered("torch_cuda:flash_backend", ("torch",), _TORCH, gpu=True),
        "torch-cuda-sdpa-math": Registered("torch_cuda:math_backend", ("torch",), _TORCH, gpu=True),
        "torch-flex": Registered("torch_flex:flex_backend", ("torch",), _TORCH),
        "torch-sdpa-flash": Registered("torch_sdpa:flash_backend", ("torch",), _TORCH),
        "torch-sdpa-math": Registered("torch_sdpa:math_backend", ("torch",), _TORCH),
        "triton": Registered("triton_.backend:triton_backend", ("triton", "torch"), _TRITON, gpu=True),
        "triton-hopper": Registered(
            "triton_.hopper_backend:hopper_backend", ("triton", "torch"), _TRITON, gpu=True
        ),
        "triton-interpreter": Registered(
            "triton_.backend:interpreter_backend", ("triton", "torch"), _TRITON, slow=True
        ),
        "xformers": Registered(
            "xformers_:xformers_backend", ("xformers", "torch"), "pip install xformers", gpu=True
        ),
    }
)


class Availability(NamedTuple):
    """Whether a registered backend can run here, and its library's version or what is missing."""

    runs: bool
    detail: str


def names() -> tuple[str, ...]:
    """Return every registered name, entry points included, sorted."""
    return tuple(sorted({*REGISTERED, *_plugins()}))


def available() -> dict[str, Availability]:
    """Return whether each registered backend runs here, without importing any of their libraries."""
    found = {name: _library_state(entry) for name, entry in REGISTERED.items()}
    for name, plugins in _plugins().items():
        found[name] = _plugin_state(name, plugins)
    return dict(sorted(found.items()))


def resolve(name: str) -> Backend:
    """Backend of a registered name, its library imported.

    Raises
    ------
    SubjectError : no such name, a name claimed twice, or a library that is not installed here.
    """
    plugins = _plugins().get(name, ())
    if name not in REGISTERED and not plugins:
        raise SubjectError(unknown_name(name))
    if len(plugins) + (name in REGISTERED) > 1:
        raise SubjectError(_clash(name, plugins))
    if plugins:
        return _resolve_plugin(name, plugins[0])
    entry = REGISTERED[name]
    if entry.missing:
        raise SubjectError(f"backend {name!r} needs {' and '.join(entry.missing)}: {entry.install}")
    if entry.gpu and not gpu_there():
        raise SubjectError(f"backend {name!r} needs a GPU, and none is here")
    module, _, attribute = entry.target.partition(":")
    try:
        backend = getattr(import_module(f"softcert.backends.{module}"), attribute)()
    except ImportError as error:
        raise SubjectError(f"backend {name!r} cannot import {entry.libraries[0]}: {error}") from error
    assert isinstance(backend, Backend)  # noqa: S101 - the table above names only such functions
    return backend


def is_slow(name: str) -> bool:
    """Whether a backend is to be judged only where it is named."""
    return name in REGISTERED and REGISTERED[name].slow


def unknown_name(name: str) -> str:
    """Return the sentence that says a name is not registered, and which are."""
    known = names()
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no backend or module is called {name!r}{hint} (registered: {', '.join(known)})"


def _library_state(entry: Registered) -> Availability:
    if entry.missing:
        lacking = f"{' and '.join(entry.missing)} {'is' if len(entry.missing) == 1 else 'are'}"
        return Availability(runs=False, detail=f"{lacking} not installed: {entry.install}")
    if entry.gpu and not gpu_there():
        return Availability(runs=False, detail="no GPU here")
    library = entry.distribution or entry.libraries[0]
    try:
        return Availability(runs=True, detail=f"{library} {version(library)}")
    except PackageNotFoundError:
        return Availability(runs=True, detail=f"{library} (version unknown)")


def _plugins() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        # One distribution seen twice on sys.path is not a clash.
        if point not in found.get(point.name, ()):
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def _plugin_state(name: str, plugins: tuple[EntryPoint, ...]) -> Availability:
    if len(plugins) + (name in REGISTERED) > 1:
        return Availability(runs=False, detail=_clash(name, plugins))
    distribution = plugins[0].dist
    origin = f"{distribution.name} {distribution.version}" if distribution else plugins[0].value
    return Availability(runs=True, detail=origin)


def _clash(name: str, plugins: tuple[EntryPoint, ...]) -> str:
    claims = [f"softcert.backends.{REGISTERED[name].target}"] if name in REGISTERED else []
    claims += [point.value for point in plugins]
    return f"the name {name!r} is claimed by {' and '.join(claims)}"


def _resolve_plugin(name: str, point: EntryPoint) -> Backend:
    try:
        made: Any = point.load()
        backend = made if isinstance(made, Backend) else made()
    except Exception as error:
        raise SubjectError(
            f"backend {name!r} from {point.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(backend, Backend):
        raise SubjectError(f"{point.value} gives {type(backend).__name__}, not a softcert Backend")
    return backend
