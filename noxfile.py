"""Every task of a developer, one nox session each; `nox -l` lists them.

Sessions use the interpreter that runs nox, pip alone, and the versions that constraints.txt locks.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints.txt"

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
# In this order of definition; tests come last, so that a run ends with their summary.
nox.options.sessions = ["lint", "types", "docs", "site", "wheel", "triton", "browser", "tests"]

#: Paths that ruff reads; the links in src/softcert lead to the rooms, which are listed themselves.
PYTHON_SOURCES = (
    "reference",
    "backends",
    "conformance",
    "reports",
    "src",
    "tests",
    "benchmarks",
    "tools",
    "docs",
    "noxfile.py",
)
#: Libraries of extras that are heavy, and of which one version is tested alone: that of constraints.txt.
HEAVY = ("jax", "onnx", "onnxruntime", "optax", "torch", "triton")
#: Beside that of constraints.txt.
OLDER_TRITON = "3.6.0"
#: Tests of the built package: the public surface, which needs neither torch nor this tree.
WHEEL_TESTS = ("tests/test_packaging.py", "tests/test_cli.py")
#: Tests of which those marked gpu need one, and of softcert what a bare machine can import.
GPU_TESTS = ("tests/backends/test_triton_kernels.py", "tests/backends/test_libraries.py")
#: Tests of what pages show and link to; the session `docs` suffices for them.
DOCS_TESTS = ("tests/test_docs.py", "tests/test_docs_commands.py")


def install(session: nox.Session, *requirements: str) -> None:
    """Install what a session needs at the locked versions, build requirements included."""
    session.env["PIP_BUILD_CONSTRAINT"] = str(CONSTRAINTS)
    session.env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    session.install("-c", str(CONSTRAINTS), *requirements)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and which room may import which."""
    install(session, "ruff", "import-linter", "-e", ".")
    session.run("ruff", "check", *PYTHON_SOURCES)
    session.run("ruff", "format", "--check", *PYTHON_SOURCES)
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly."""
    install(session, "mypy", "nox", "-e", ".[report,test]")
    session.run("mypy")
    session.run("mypy", "noxfile.py", "benchmarks")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the docs agree with the code: the generated page, the links, the commands shown."""
    install(session, "scipy", "-e", ".[report,test]")
    specification = ROOT / "docs" / "specification.md"
    if "--write" in session.posargs:
        text = session.run("softcert", "spec", "--format", "markdown", silent=True)
        specification.write_text(str(text), encoding="utf-8")
    session.run("pytest", "-q", "-m", "not slow", *_in_parallel(), *DOCS_TESTS)


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation site into build/docs/site; a broken link or name fails."""
    install(session, "-e", ".[docs,report,test]")
    build = ROOT / "build" / "docs"
    shutil.rmtree(build / "site", ignore_errors=True)
    options = ("--fail-on-warning", "--keep-going", "--fresh-env", "--quiet", *session.posargs)
    session.run("sphinx-build", *options, "-d", str(build / "doctrees"), "docs", str(build / "site"))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the sdist, the wheel from it, and try the wheel away from this tree."""
    install(session, "build")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT), silent=True)
    (built,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    _compare_contents(session, built, sdist)
    install(session, f"softcert[report,test] @ {built.resolve().as_uri()}", "--force-reinstall", "--no-deps")
    install(session, f"softcert[report,test] @ {built.resolve().as_uri()}")
    with tempfile.TemporaryDirectory() as elsewhere:
        for test in WHEEL_TESTS:
            shutil.copy(ROOT / test, elsewhere)
        session.chdir(elsewhere)
        session.run("softcert", "--version")
        session.run(
            "softcert", "check", "numpy", "--op", "softmax", "--dtype", "float32", "--profile", "smoke"
        )
        session.run("python", "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", ".")


@nox.session
def report(session: nox.Session) -> None:
    """Write the accuracy and speed report on every library that runs here, and open it."""
    install(session, "-e", ".[all]")
    session.run("softcert", "report", *(session.posargs or ["--open"]))


@nox.session
def published(session: nox.Session) -> None:
    """Write the dated report on several versions of every library: an hour, and some GB under build/."""
    install(session, "-e", ".[all]")
    session.run("python", "tools/published.py", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Judge the shipped backends; the naive one has to fail, and so has PyTorch in float16.

    PyTorch 2.13 sums in float16 on the CPU: log_softmax and logsumexp of 65520 equal logits overflow. Other
    libraries are judged by tests, which hold what each is known to break: most of an hour.
    """
    install(session, "-e", ".[all]")
    options = session.posargs or ["--profile", "quick"]
    known = "--expected-failures tests/conformance/known/torch.toml"
    for backend in ("numpy", "scipy", f"torch --dtype float64 --dtype float32 --dtype bfloat16 {known}"):
        session.run("softcert", "check", *backend.split(), *options)
    for backend in ("numpy-naive", "torch --dtype float16"):
        session.run("softcert", "check", *backend.split(), *options, success_codes=[1])
    session.run("pytest", "-q", "tests/conformance/test_libraries.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Time certified elements beside mpmath and libraries; print how sharp the bounds of attention are."""
    install(session, "-e", ".[torch,peers]")
    session.run("python", "benchmarks/reference_speed.py")
    session.run("python", "benchmarks/attention_bounds.py")
    for program in ("fast_oracle", "attention_oracle", "exact_products", "numba_kernels", "hierarchical"):
        session.run("python", f"benchmarks/{program}.py", *session.posargs)


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests on the lowest declared version of every dependency that is not heavy."""
    lowest = _lowest_versions()
    floor = Path(session.create_tmp()) / "minimums.txt"
    floor.write_text("\n".join(lowest) + "\n", encoding="utf-8")
    session.install("-c", str(floor), "-e", ".", *lowest)
    # Old releases use what newer ones of their own dependencies deprecate.
    session.run(
        "pytest", "-m", "not slow", *_in_parallel(), "-W", "ignore::DeprecationWarning", *session.posargs
    )


@nox.session
def triton(session: nox.Session) -> None:
    """Compile the Triton kernels without a GPU by the older release that GPU machines have, too."""
    install(session, "-e", ".[test]")
    # Not the release of constraints.txt, with which the tests compile them.
    session.install(f"triton=={OLDER_TRITON}")
    session.run(
        "pytest", "-q", *_in_parallel(), *(session.posargs or ["tests/backends/test_triton_compiled.py"])
    )


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """On a GPU machine, with its PyTorch, Triton and pytest: test, answer files of cases, time kernels."""
    environment = {"PYTHONPATH": str(ROOT / "src")}
    folder = ROOT / "gpu"
    folder.mkdir(exist_ok=True)
    session.run(
        "python",
        "-m",
        "pytest",
        "-q",
        "--noconftest",
        "-m",
        "gpu",
        *GPU_TESTS,
        env=environment,
        external=True,
    )
    for backend in ("triton", "triton-hopper"):
        for cases in session.posargs:
            results = folder / f"{backend}-{Path(cases).stem}.results"
            session.run(
                "python", "-m", "softcert", "run", backend, "--cases", cases, "--out", str(results),
                env=environment, external=True,
            )  # fmt: skip
    figures = folder / "kernels.json"
    session.run("python", "benchmarks/gpu_kernels.py", "--json", str(figures), env=environment, external=True)


@nox.session
def browser(session: nox.Session) -> None:
    """Open report pages in Chromium, which apt-get installs where there is none and it may."""
    found = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")))
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        session.run("apt-get", "update", "-qq", external=True)
        session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", external=True)
    install(session, "-e", ".[browser,report,test]")
    # A skip would tell nothing here.
    session.env["SOFTCERT_REQUIRE_BROWSER"] = "1"
    session.run("pytest", "-q", *(session.posargs or ["tests/reports/test_browser.py"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, with everything installed that runs without a GPU; the slow ones have `zoo`."""
    install(session, "-e", ".[all]")
    # Those had a session before.
    ignored = [f"--ignore={path}" for path in DOCS_TESTS]
    session.run("pytest", "-m", "not slow", *ignored, *_in_parallel(), *session.posargs)


@nox.session
def zoo(session: nox.Session) -> None:
    """Tell every broken implementation from every correct one: most of an hour."""
    install(session, "-e", ".[all]")
    session.run("pytest", "tests/defects", *_in_parallel(), *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Mutate the harness, in a copy, and see whether its tests notice: half an hour, or modules by name."""
    install(session, "cosmic-ray", "-e", ".[report,test]")
    session.run("python", "tools/mutation.py", *session.posargs)


def _in_parallel() -> tuple[str, ...]:
    return ("-n", str(min(2, os.cpu_count() or 1)), "--dist", "worksteal")


def _lowest_versions() -> list[str]:
    """Return `name==floor` for each declared dependency but the heavy ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = list(project["dependencies"])
    for extra in ("report", "test", "peers", "campaign"):
        declared += project["optional-dependencies"][extra]
    floors = (requirement.partition(",")[0].partition(">=") for requirement in declared)
    return [f"{name}=={version}" for name, _, version in floors if version and name not in HEAVY]


def _compare_contents(session: nox.Session, built: Path, sdist: Path) -> None:
    """Fail unless wheel and sdist hold exactly the files that the tree's packages hold."""
    package = ROOT / "src" / "softcert"
    wanted = {
        str(Path("softcert") / folder.relative_to(package) / name) for folder, name in _package_files(package)
    }
    with zipfile.ZipFile(built) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {
            name.partition("/src/")[2]
            for name in archive.getnames()
            if "/src/softcert/" in name and Path(name).suffix
        }
    for kind, held in (("wheel", in_wheel), ("sdist", in_sdist)):
        if held != wanted:
            session.error(f"the {kind} lacks {sorted(wanted - held)} and adds {sorted(held - wanted)}")


def _package_files(package: Path) -> list[tuple[Path, str]]:
    """Folder and name of every file that belongs in the package, the links followed; no published report."""
    found = []
    for folder, subfolders, names in os.walk(package, followlinks=True):
        subfolders[:] = [name for name in subfolders if name not in {"__pycache__", "published"}]
        found += [(Path(folder), name) for name in names]
    return found
