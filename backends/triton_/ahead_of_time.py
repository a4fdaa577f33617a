"""Kernels compiled without a GPU, for one named, and what is in their machine code.

`python -m softcert.backends.triton_.ahead_of_time` compiles every listed configuration and prints a line of
JSON for each. It needs Triton, whose wheel brings NVIDIA's assembler and disassembler, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

from softcert.backends.triton_ import backward_kernels, forward_kernel, softmax_kernels
from softcert.backends.triton_.hopper_configurations import HOPPER_CONFIGURATIONS, HopperConfiguration
from softcert.backends.triton_.softmax import Op, launch_for
from softcert.backends.triton_.tilings import OPTIONS, WIDTHS, constants, tiling

#: Compute capabilities: Ampere's and Hopper's.
CAPABILITIES = (80, HOPPER := 90)
_POINTERS = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}
#: Pointers that are not to the inputs' dtype.
_OWN_TYPES = {
    "lse_ptr": "*fp32",
    "delta_ptr": "*fp32",
    "q_starts": "*i32",
    "k_starts": "*i32",
}
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Configuration(NamedTuple):
    """A kernel, and what it is compiled for.

    Attributes
    ----------
    name : says all that follows.
    kernel : of one of the modules of kernels.
    dtype : of the operands.
    constants : its constexprs by name.
    warps, stages : of a program, and of its pipeline of loads.
    multiplies : it has matrix products that belong on tensor cores.
    """

    name: str
    kernel: Any
    dtype: str
    constants: Mapping[str, Any]
    warps: int
    stages: int
    multiplies: bool


class Compiled(NamedTuple):
    """What the machine code of a configuration holds.

    Attributes
    ----------
    name, capability, triton : what was compiled, for which GPU, and by which release.
    registers : of a thread.
    spilled : bytes of a thread's stack, and loads and stores of local memory.
    shared : bytes of shared memory of a program.
    multiplies : it has matrix products that belong on tensor cores.
    tensor_core : instructions that multiply matrices.
    wide_accesses : loads and stores of global memory of 16 bytes, asynchronous copies included.
    waits, waits_asked : how many products each wait for them leaves running, in machine code and in PTX.
    specialized : warps have tasks and numbers of registers of their own.
    """

    name: str
    capability: int
    triton: str
    registers: int
    spilled: int
    shared: int
    multiplies: bool
    tensor_core: int
    wide_accesses: int
    waits: tuple[int, ...]
    waits_asked: tuple[int, ...]
    specialized: bool


def softmax_configurations() -> Iterator[Configuration]:
    """One row a program and several, the longest that one holds, and chunks."""
    listed: tuple[tuple[str, Op, int], ...] = (
        ("float32", "softmax", 128),
        ("float32", "softmax", 4096),
        ("float32", "softmax", softmax_kernels.ONE_BLOCK),
        ("bfloat16", "softmax", softmax_kernels.ONE_BLOCK),
        ("float16", "log_softmax", 4096),
        ("float32", "logsumexp", softmax_kernels.ONE_BLOCK),
        ("float32", "softmax", 131072),
        ("bfloat16", "log_softmax", 131072),
        ("float32", "backward", softmax_kernels.ONE_BLOCK_OF_TWO),
        ("bfloat16", "backward", 131072),
    )
    for dtype, op, length in listed:
        launch = launch_for(op, length)
        title = f"rows {op} {dtype} {length}"
        yield Configuration(title, launch.kernel, dtype, launch.constants, launch.warps, 3, multiplies=False)


def attention_configurations(capability: int) -> Iterator[Configuration]:
    """Every tiling for a GPU, with a causal mask and without, and each way to hide keys once."""
    kernels = {
        "forward": forward_kernel.forward,
        "backward_keys": backward_kernels.backward_keys,
        "backward_queries": backward_kernels.backward_queries,
    }
    for name, kernel in kernels.items():
        for dtype in ("bfloat16", "float32"):
            for features in WIDTHS:
                yield _attention(name, kernel, dtype, features, "bottom-right", capability)
        yield _attention(name, kernel, "bfloat16", 64, "none", capability)
        yield _attention(name, kernel, "bfloat16", 128, "none", capability)
        yield _attention(name, kernel, "float16", 128, "top-left", capability)
        yield _attention(name, kernel, "float16", 16, "none", capability)
        yield _attention(name, kernel, "bfloat16", 96, "none", capability)
        yield _attention(name, kernel, "bfloat16", 128, "bottom-right", capability, packed=True)
        yield _attention(name, kernel, "bfloat16", 128, "none", capability, mask="boolean")
        for dtype in ("bfloat16", "float32"):
            for features in WIDTHS:
                yield _attention(name, kernel, dtype, features, "bottom-right", capability, mask="additive")
        for features in WIDTHS:
            yield _attention(name, kernel, "float32", features, "none", capability, precision="tf32")


def compile_for(configuration: Configuration, capability: int) -> Compiled:
    """Compile a configuration for a GPU of a compute capability, 80 or 90, and read its machine code."""
    names = configuration.kernel.arg_names
    signature = {name: _type_of(name, configuration) for name in names}
    attributes: Any = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if name.endswith(("_ptr", "_starts", "_batch", "_head", "_row")) or name == "length"
    }
    source = ASTSource(configuration.kernel, signature, dict(configuration.constants), attributes)
    options = {**OPTIONS, "num_warps": configuration.warps, "num_stages": configuration.stages}
    return _compile(configuration.name, source, capability, options, multiplies=configuration.multiplies)


def compile_for_hopper(configuration: HopperConfiguration) -> Compiled:
    """Compile a configuration of a kernel for Hopper, and read its machine code."""
    source = GluonASTSource(
        configuration.kernel, configuration.signature, configuration.constexprs, configuration.attrs
    )
    options = {"num_warps": configuration.num_warps, "enable_fp_fusion": configuration.enable_fp_fusion}
    return _compile(f"hopper-{configuration.name}", source, HOPPER, options, multiplies=True)


def _compile(
    name: str, source: Any, capability: int, options: Mapping[str, Any], *, multiplies: bool
) -> Compiled:
    made: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(options))
    code, registers, stack = _machine_code(made.asm["cubin"])
    # As the assembler left them: where it serializes products it adds waits that the PTX has not.
    waits = re.findall(r"WARPGROUP\.DEPBAR\S*\s+gsb0, 0x(\d+)", code)
    asked = re.findall(r"wgmma\.wait_group\.sync\.aligned\s+(\d+)", made.asm["ptx"])
    return Compiled(
        name,
        capability,
        triton.__version__,
        registers,
        stack + len(re.findall(r"\b(?:LDL|STL)\b", code)),
        int(made.metadata.shared),
        multiplies,
        len(re.findall(r"\b(?:HMMA|HGMMA|IMMA|DMMA)\b", code)),
        len(re.findall(r"\b(?:LDG|STG|LDGSTS)\S*\.128\b", code)),
        tuple(map(int, waits)),
        tuple(map(int, asked)),
        "setmaxnreg" in made.asm["ptx"],
    )


def _attention(
    name: str,
    kernel: Any,
    dtype: str,
    features: int,
    causal: str,
    capability: int,
    *,
    mask: str = "none",
    packed: bool = False,
    precision: str = "ieee",
) -> Configuration:
    masked = mask != "none"
    itemsize = 4 if dtype == "float32" else 2
    tiles = tiling(name, capability, itemsize, precision, masked=masked, features=features, values=features)
    compiled = constants(
        tiles,
        causal=causal,
        mask=mask,
        packed=packed,
        precision=precision,
        features=features,
        values=features,
    )
    said = [name, dtype, str(features), causal, mask if mask != "none" else "", "packed" if packed else ""]
    title = " ".join(filter(None, [*said, precision if precision != "ieee" else ""]))
    multiplies = dtype != "float32" or precision != "ieee"
    return Configuration(title, kernel, dtype, compiled, tiles.warps, tiles.stages, multiplies)


def _type_of(name: str, configuration: Configuration) -> str:
    if name in configuration.constants:
        return "constexpr"
    if name == "mask_ptr" and configuration.constants["MASK"] == "boolean":
        return "*u8"
    if name in _OWN_TYPES or name.endswith("_ptr"):
        return _OWN_TYPES.get(name, _POINTERS[configuration.dtype])
    return "fp32" if name == "scale" else "i32"


def _machine_code(cubin: bytes) -> tuple[str, int, int]:
    """Disassembly of a binary, registers of a thread, and bytes of its stack."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output("cuobjdump", "-res-usage", file.name)
        code = _output("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {usage}")
    return code, int(found[1]), int(found[2])


def _output(tool: str, *arguments: str) -> str:
    command = [str(_TOOLS / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - Triton's own


def main() -> None:
    """Compile what is listed and print what came of it."""
    parser = argparse.ArgumentParser(description="Compile the Triton kernels without a GPU.")
    parser.add_argument("--capability", type=int, choices=CAPABILITIES, action="append")
    parser.add_argument("--only", default="", help="configurations whose names hold these words")
    arguments = parser.parse_args()
    for compiled in _asked(arguments.capability or CAPABILITIES, arguments.only):
        print(json.dumps(compiled._asdict()), flush=True)  # noqa: T201 - the program's output


def _asked(capabilities: Sequence[int], words: str) -> Iterator[Compiled]:
    """Compile what is asked for, one after the other."""
    for capability in capabilities:
        for configuration in (*softmax_configurations(), *attention_configurations(capability)):
            if words in configuration.name:
                yield compile_for(configuration, capability)
    for hopper in HOPPER_CONFIGURATIONS if HOPPER in capabilities else ():
        if words in f"hopper-{hopper.name}":
            yield compile_for_hopper(hopper)


if __name__ == "__main__":
    main()
