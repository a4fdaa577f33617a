"""The Triton kernels compiled without a GPU: no register spilled, tensor cores used where they can be."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("triton")
from softcert.backends.triton_ import tilings

#: Bytes of shared memory that a program may have (CUDA C++ Programming Guide, by compute capability).
SHARED_MEMORY = {80: 166912, 90: 232448}


def compiled(capability, words, tmp_path):
    """What the machine code of every configuration holds whose name holds these words."""
    command = [sys.executable, "-m", "softcert.backends.triton_.ahead_of_time"]
    # A compiler that crashes is to fail the test, not to end it.
    done = subprocess.run(
        [*command, "--capability", str(capability), "--only", words],
        capture_output=True,
        text=True,
        timeout=900,
        env={"TRITON_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("words", ["rows", "forward ", "backward_keys", "backward_queries"])
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_portable_kernels(capability, words, tmp_path):
    found = compiled(capability, words, tmp_path)
    assert len(found) >= (8 if words == "rows" else 3 * len(tilings.WIDTHS))
    for one in found:
        assert one["spilled"] == 0, one
        assert one["shared"] <= SHARED_MEMORY[capability], one
        assert (one["tensor_core"] > 0) == one["multiplies"], one


def test_hopper_kernels(tmp_path):
    found = compiled(90, "hopper", tmp_path)
    assert len(found) == 26
    for one in found:
        assert one["spilled"] == 0, one
        assert one["shared"] <= SHARED_MEMORY[90], one
        assert one["tensor_core"] > 0, one
        # Softmax under a product: some wait leaves one running, and the assembler has added none.
        assert max(one["waits"]) > 0, one
        assert len(one["waits"]) == len(one["waits_asked"]), one
        assert one["specialized"], one
