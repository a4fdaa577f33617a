"""The pytest plugin: `pytest --softcert SUBJECT --pyargs softcert.conformance` runs the suite on any subject.

pytest loads this module in every session of an environment where softcert is installed, so nothing but
pytest is imported until a test asks for more.
"""

from __future__ import annotations

import pytest

from softcert.clause_tests import ClauseCheck, ClauseViolation, parametrize_with_clauses

__all__ = ["ClauseCheck", "ClauseViolation", "parametrize_with_clauses"]

#: The module whose one test becomes one test per clause, op and dtype.
SUITE = "softcert.conformance.test_suite"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say what is judged; see pytest's documentation of this hook."""
    group = parser.getgroup("softcert", "conformance of softmax and attention kernels")
    repeatable = {
        "--softcert": ("SUBJECT", "judge this subject by the tests of softcert.conformance"),
        "--softcert-op": ("OP", "judge this op only"),
        "--softcert-dtype": ("D", "judge this dtype only"),
        "--softcert-clause": ("ID|GROUP", "judge this clause only"),
    }
    for name, (metavar, text) in repeatable.items():
        group.addoption(name, action="append", metavar=metavar, default=[], help=f"{text}; repeatable")
    group.addoption("--softcert-profile", metavar="NAME", default="smoke", help="smoke, quick or full")
    group.addoption(
        "--softcert-seed",
        metavar="N",
        type=int,
        default=0,
        help="seed of every random choice; the same again",
    )
    group.addoption("--softcert-contract", metavar="FILE", help="TOML or JSON file with what it promises")
    group.addoption(
        "--softcert-expected-failures",
        metavar="FILE",
        help="TOML file of clauses that are known to be broken",
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what is judged, and by which seed it can be judged again."""
    subjects = config.getoption("softcert")
    if not subjects:
        return None
    profile, seed = config.getoption("softcert_profile"), config.getoption("softcert_seed")
    return (
        f"softcert: {', '.join(subjects)}, profile {profile}, seed {seed} (again with --softcert-seed {seed})"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the suite's one test into one per clause, op, dtype and subject."""
    if metafunc.module.__name__ != SUITE:
        return
    from softcert.errors import SoftcertError

    try:
        mark = _chosen(metafunc.config)
    except SoftcertError as error:
        raise pytest.Collector.CollectError(f"softcert: {error}") from error
    metafunc.parametrize(*mark.args)


def _chosen(config: pytest.Config) -> pytest.MarkDecorator:
    """Parametrization that the options ask for."""
    from softcert.conformance.expected import read_expected
    from softcert.conformance.model import RequestError
    from softcert.conformance.wire.toml_files import read_contract

    if not config.getoption("softcert"):
        raise RequestError("say what is judged, with --softcert SUBJECT")
    contract, expected = (config.getoption(f"softcert_{name}") for name in ("contract", "expected_failures"))
    return parametrize_with_clauses(
        config.getoption("softcert"),
        ops=config.getoption("softcert_op") or None,
        dtypes=config.getoption("softcert_dtype") or None,
        clauses=config.getoption("softcert_clause") or None,
        profile=config.getoption("softcert_profile"),
        seed=config.getoption("softcert_seed"),
        contract=read_contract(contract) if contract else None,
        expected_failures=read_expected(expected) if expected else None,
    )
