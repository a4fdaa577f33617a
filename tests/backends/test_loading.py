"""SUBJECT strings: every form that is understood, and the sentence for every one that is not."""

import sys
from pathlib import Path

import numpy as np
import pytest

from softcert.backends import Contract, SubjectError, load

ROW = np.array([0.0, 1.0, 2.0])
SOFT = np.exp(ROW) / np.exp(ROW).sum()
GOOD = """
import numpy as np

def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)
"""


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    """Let no loaded file change what the next test can import."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="kernel.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write_file


def test_function_of_an_installed_module():
    backend = load("scipy.special:softmax")
    assert set(backend.ops) == {"softmax"}
    assert backend.name == "scipy.special:softmax"
    assert "scipy" in backend.versions
    # The function's own default is the whole array.
    matrix = np.stack([ROW, ROW])
    np.testing.assert_allclose(backend.ops["softmax"](matrix, axis=-1), [SOFT, SOFT])


def test_file_with_function(write):
    backend = load(write(GOOD) + ":softmax")
    np.testing.assert_allclose(backend.ops["softmax"](ROW), SOFT)


def test_file_with_op_names(write):
    path = write(GOOD + "\ndef logsumexp(x, axis=-1):\n    return np.log(np.exp(x).sum(axis))\n")
    assert set(load(path).ops) == {"softmax", "logsumexp"}
    assert set(load(path, op="logsumexp").ops) == {"logsumexp"}


def test_module_with_op_names():
    assert set(load("scipy.special").ops) == {"softmax", "log_softmax", "logsumexp"}


def test_op_is_given_where_the_name_does_not_say(write):
    path = write(GOOD.replace("softmax", "mine"))
    with pytest.raises(SubjectError, match="must be given: one of softmax, log_softmax"):
        load(path + ":mine")
    assert set(load(path + ":mine", op="softmax").ops) == {"softmax"}


def test_attribute_path(write):
    path = write(GOOD + "\nclass Holder:\n    softmax = staticmethod(softmax)\n")
    np.testing.assert_allclose(load(path + ":Holder.softmax").ops["softmax"](ROW), SOFT)


def test_neighbours_are_importable_while_loading_and_later(write):
    write("VALUE = 1.0\n", "neighbour_now.py")
    write("VALUE = 1.0\n", "neighbour_later.py")
    later = GOOD.replace("    e = ", "    import neighbour_later\n    e = neighbour_later.VALUE * ")
    backend = load(write("import neighbour_now\n" + later) + ":softmax")
    np.testing.assert_allclose(backend.ops["softmax"](ROW), SOFT)


def test_file_named_like_a_library(write):
    backend = load(write(GOOD, "numpy.py") + ":softmax")
    np.testing.assert_allclose(backend.ops["softmax"](ROW), SOFT)


def test_relative_imports_of_a_package(write):
    write("", "bundle_of_kernels/__init__.py")
    write(GOOD, "bundle_of_kernels/core.py")
    path = write("from .core import softmax\n", "bundle_of_kernels/front.py")
    np.testing.assert_allclose(load(path + ":softmax").ops["softmax"](ROW), SOFT)


def test_backend_object_in_a_file(write):
    text = GOOD + "\nfrom softcert.backends import Backend\nmine = Backend('mine', {'softmax': softmax})\n"
    assert load(write(text) + ":mine").name == "mine"


def test_declaration(write):
    text = GOOD + "\nSOFTCERT = {'dtypes': ['float32'], 'contract': {'exp_ulp': 5}, 'name': 'mine'}\n"
    backend = load(write(text))
    assert (backend.dtypes, backend.contract.exp_ulp, backend.name) == (("float32",), 5, "mine")
    assert load(write(text), contract=Contract(exp_ulp=1.0)).contract.exp_ulp == 1.0


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("3", "is int, not a mapping"),
        ("{'colour': 1}", "unknown entry 'colour'"),
        ("{'dtypes': 'float32'}", "is not a list of dtype names"),
        ("{'dtypes': ['float33']}", "names 'float33'; the dtypes are float64"),
        ("{'contract': {'exp_ulp': -1}}", "exp_ulp has to be a positive number, not -1"),
        ("{'contract': 1}", "is not a mapping"),
    ],
)
def test_wrong_declarations(write, declaration, words):
    with pytest.raises(SubjectError, match=words):
        load(write(f"{GOOD}\nSOFTCERT = {declaration}\n"))


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("", "the subject is empty"),
        (":f", "no module or file before the colon"),
        ("scipy.special:", "no function after the colon"),
        ("no_such_module:f", "no backend or module is called 'no_such_module'"),
        ("scipy.no_such_part:f", "No module named 'scipy.no_such_part'"),
        ("scipy.special:no_such", "scipy.special has no attribute 'no_such'"),
        ("numpy:softmax", r"numpy has no attribute 'softmax' \(numpy is a registered backend too\)"),
        ("no/such/file.py:f", "there is no file 'no/such/file.py'"),
        ("math", "math has no function called softmax"),
        ("/", "'/' is a folder, not a Python source file"),
        ("scipy.special:softmx", "did you mean 'softmax'?"),
        (None, "has to be a string, a path, a Backend or a function, not None"),
        (3, "not 3"),
        (["numpy"], r"not \['numpy'\]"),
        (b"numpy", "not b'numpy'"),
        (dict, "is a class; give a function or an instance"),
        (len, "what is loaded has to be a string or a path"),
    ],
)
def test_subjects_that_are_not_there(subject, words):
    with pytest.raises(SubjectError, match=words):
        load(subject)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("kernel.txt:softmax", "'kernel.txt' is not a Python source file"),
        ("kernel.py:softmax:extra", "has two colons"),
        ("kernel.toml:softmax", "No module named 'kernel.toml'; 'kernel' is not a package"),
        ("kernel.py:softmx", "did you mean 'softmax'?"),
        ("kernel.py:nosuch", "no attribute 'nosuch'; its functions are softmax"),
        ("kernel.py:softmax.nosuch", "no attribute 'softmax.nosuch'"),
        ("~no-such-user/kernel.py", "there is no file '~no-such-user/kernel.py'"),
    ],
)
def test_files_and_functions_that_are_not_there(write, monkeypatch, tmp_path, subject, words):
    write(GOOD)
    write("", "kernel.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SubjectError) as caught:
        load(subject)
    assert words in str(caught.value)
    assert "__init__.py" not in str(caught.value)


def test_paths_and_the_home_folder_are_understood(write, monkeypatch, tmp_path):
    path = write(GOOD)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(Path(path)).name == path
    assert set(load("~/kernel.py:softmax").ops) == {"softmax"}


def test_a_contract_may_be_a_mapping():
    assert load("numpy", contract={"exp_ulp": 2}).contract == Contract(exp_ulp=2.0)
    with pytest.raises(SubjectError, match=r"softcert\.Contract or a mapping, not 3"):
        load("numpy", contract=3)


def test_unknown_op():
    with pytest.raises(SubjectError, match="op 'hardmax' is unknown; the ops are softmax"):
        load("numpy", op="hardmax")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def softmax(x:\n  pass", r"SyntaxError at .*kernel\.py:1"),
        ("x = 1\n1 / 0\n", r"ZeroDivisionError: division by zero \(kernel\.py:2\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(kernel\.py:2\)"),
        ("import no_such_library\n", r"No module named 'no_such_library' \(kernel\.py:1\)"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("softmax = 3\n", "is int, not a function"),
        ("class softmax:\n    pass\n", "is a class"),
        ("def softmax():\n    pass\n", "no place for the operand"),
        ("def softmax(x, lengths):\n    pass\n", "requires an argument 'lengths'"),
        ("def softmax(x, *, mask):\n    pass\n", "requires an argument 'mask'"),
    ],
)
def test_subjects_that_cannot_be_used(write, text, words):
    with pytest.raises(SubjectError, match=words) as caught:
        load(write(text) + ":softmax")
    assert "\n" not in str(caught.value)


def test_exceptions_that_cannot_be_printed(write):
    text = "class Odd(Exception):\n    def __str__(self):\n        raise SystemExit\nraise Odd\n"
    with pytest.raises(SubjectError, match=r"Odd: \(its message cannot be printed\)"):
        load(write(text))


def test_long_messages_are_cut(write):
    with pytest.raises(SubjectError) as caught:
        load(write("raise ValueError('\\udcff' + 'long ' * 10000)"))
    assert len(str(caught.value)) < 600
    str(caught.value).encode()
