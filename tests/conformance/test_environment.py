"""The environment says what matters for a figure, and nothing of who measured it."""

from __future__ import annotations

import getpass
import json
import platform
import re
import socket
from pathlib import Path

from softcert.conformance.environment import available_cores, describe, installed_versions, processor

X86 = """processor\t: 0
model name\t: Some(R)  Processor   CPU @ 2.00GHz
flags\t\t: fpu sse4_2 avx avx2 fma f16c avx512f avx512_bf16 other
processor\t: 1
model name\t: Another
"""
ARM = "processor : 0\nFeatures : fp asimd sve bf16\n"


def test_describe_is_json_with_every_field():
    environment = describe({"scipy": "1.17"})
    assert json.loads(json.dumps(environment)) == environment
    assert {"python", "platform", "processor", "simd", "cores", "versions", "date"} == set(environment)
    assert platform.python_version() in environment["python"]
    assert environment["versions"]["scipy"] == "1.17"
    assert {"softcert", "numpy", "mpmath", "python-flint", "sympy", "hypothesis"} <= set(
        environment["versions"]
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", environment["date"])
    assert environment["cores"] == available_cores() >= 1


def test_nothing_in_it_names_a_person_a_host_or_a_path():
    values = json.dumps({k: v for k, v in describe().items() if k != "versions"}).lower()
    words = set(re.split(r"[^a-z0-9._/-]+", values))
    assert {socket.gethostname().lower(), getpass.getuser().lower()}.isdisjoint(words)
    assert str(Path.home()) not in values.split('"')
    assert str(Path.cwd()) not in values


def test_processor_of_x86():
    model, flags = processor(X86)
    assert model == "Some(R) Processor CPU @ 2.00GHz"
    assert flags == ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16")


def test_processor_of_arm_and_of_nothing():
    assert processor(ARM)[1] == ("asimd", "sve", "bf16")
    model, flags = processor("")
    assert model
    assert flags == ()


def test_versions_of_absent_libraries_are_left_out():
    assert installed_versions(["numpy", "no-such-distribution-anywhere"]).keys() == {"numpy"}
