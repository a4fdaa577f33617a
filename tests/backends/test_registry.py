"""The registry: names without imports, and one clear sentence for what cannot be had."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from softcert.backends import Backend, SubjectError, available, load, registry


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_listing_imports_no_framework():
    code = (
        "import sys; from softcert.backends import available; available();"
        "print(*(m for m in ('torch', 'scipy', 'numba', 'jax', 'ml_dtypes', 'psutil') if m in sys.modules))"
    )
    assert run_python(code) == []


def test_worker_side_imports_no_oracle():
    oracles = ("mpmath", "sympy", "flint", "hypothesis", "click", "rich", "psutil", "softcert.reference")
    code = (
        "import sys, softcert.backends.worker; from softcert.backends import load; load('numpy');"
        f"print(*(m for m in {oracles!r} if m in sys.modules))"
    )
    assert run_python(code) == []


def test_every_listed_backend_says_what_it_is():
    listed = available()
    assert {"numpy", "numpy-naive", "numpy-online", "numpy-standard", "numpy-two-pass"} <= set(listed)
    assert {"flash-attn-3", "scipy", "torch", "torch-cuda-flex", "torch-flex"} <= set(listed)
    assert list(listed) == sorted(listed)
    assert listed["numpy"].runs
    assert listed["numpy"].detail.startswith("numpy ")


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(SubjectError, match=r"'nunpy'.*did you mean 'numpy'.*registered:.*scipy"):
        load("nunpy")


def test_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(SubjectError, match=r"needs scipy: pip install 'softcert\[peers\]'"):
        load("scipy")
    assert not available()["torch"].runs
    assert "pip install" in available()["torch"].detail
    with pytest.raises(SubjectError, match=r"needs flash_attn_interface and torch: python setup.py .*hopper"):
        load("flash-attn-3")


def test_a_backend_of_a_gpu_says_that_none_is_here(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: name)
    monkeypatch.setattr(registry, "gpu_there", lambda: False)
    with pytest.raises(SubjectError, match="needs a GPU, and none is here"):
        load("flash-attn")
    listed = available()
    assert listed["torch-cuda"] == (False, "no GPU here")
    assert listed["numpy"].runs


def plugin(name, value):
    return EntryPoint(name=name, value=value, group=registry.GROUP)


def test_entry_points_add_backends(monkeypatch):
    points = [plugin("mine", "softcert.backends.numpy_:naive_backend")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    assert "mine" in available()
    assert isinstance(load("mine"), Backend)


def test_a_name_claimed_twice_is_refused(monkeypatch):
    points = [plugin("numpy", "other.package:backend")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    with pytest.raises(SubjectError, match=r"'numpy' is claimed by .* and other\.package:backend"):
        load("numpy")
    assert not available()["numpy"].runs


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_package:f", "cannot be loaded"),
        ("math:pi", "cannot be loaded"),
        ("builtins:list", "not a softcert"),
    ],
)
def test_broken_entry_points(monkeypatch, target, words):
    monkeypatch.setattr(registry, "entry_points", lambda group: [plugin("bad", target)])
    with pytest.raises(SubjectError, match=words):
        load("bad")


def test_op_that_a_backend_does_not_have():
    with pytest.raises(SubjectError, match=r"'scipy' has no softmax_vjp; it has log_softmax"):
        load("scipy", op="softmax_vjp")
    assert set(load("numpy", op="logsumexp").ops) == {"logsumexp"}
    assert not load("numpy", op="logsumexp").beta
