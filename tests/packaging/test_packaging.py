"""The sdist and the wheel made from it stand alone: a new environment that has the
wheel and exactly the distributions it declares can run the command and the codec.

The declared distributions come from the environment the tests run in, by symbolic
link, so that the test needs no network."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.style.sources import ROOT, native_modules

# Compiling is most of this test's time, and speed is not what it tests.
QUICK_BUILD = {"CARDSWITCH_CFLAGS": "-O0 -g0"}

pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output, or a failure that shows all that the command said."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with the sdist, and the wheel that was built from the sdist."""
    out: Path = tmp_path_factory.mktemp("built")
    # Not isolated: an isolated build would fetch setuptools and Cython again.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    run(*command, ".", cwd=ROOT, **QUICK_BUILD)
    return out


@pytest.fixture(scope="module")
def sdist(built) -> Path:
    (path,) = Path(built).glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (path,) = Path(built).glob("*.whl")
    return path


def required(names: list[str]) -> dict[str, Distribution]:
    """The distributions named and all that they require, as installed here."""
    found: dict[str, Distribution] = {}
    while names:
        requirement = Requirement(names.pop())
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": ""}):
            continue
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if key not in found:
            found[key] = distribution(requirement.name)
            names.extend(found[key].requires or [])
    return found


def link_distribution(installed: Distribution, site: Path) -> None:
    tops = {Path(file).parts[0] for file in installed.files or []}
    for top in tops - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(installed.locate_file(top))))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The bin directory of an environment that has the wheel installed."""
    home: Path = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin/python"
    site = Path(
        run(
            python,
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
            cwd=home,
        ).strip()
    )
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for installed in required(list(declared["dependencies"])).values():
        link_distribution(installed, site)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet"]
    run(*pip, "install", "--no-deps", "--no-index", str(wheel), cwd=home)
    run(*pip, "check", cwd=home)
    return python.parent


def test_the_command_runs(environment):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in run(environment / "switch", "version", cwd=environment)
    as_module = [environment / "python", "-m", "switch", "version"]
    assert version in run(*as_module, cwd=environment)


def test_the_codec_reads_its_specs(environment):
    program = """
import iso8583
for name in ("iso87-ascii", "iso87-mixed", "iso87-binary", "mastercard-cis"):
    codec = iso8583.Codec(iso8583.load_spec(name))
    message = codec.decode(codec.encode({"mti": "0800", 11: "123456", 70: "301"}))
    assert message.mti == "0800" and message[11] == "123456", message
print(iso8583.__file__)
"""
    where = run(environment / "python", "-c", program, cwd=environment)
    assert Path(where.strip()).is_relative_to(environment.parent)


def test_every_module_of_the_wheel_imports(environment):
    program = """
import importlib, pkgutil, iso8583, switch
for package in (iso8583, switch):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
    run(environment / "python", "-W", "error", "-c", program, cwd=environment)


def test_the_wheel_has_what_types_and_specs_need(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for module in native_modules():
        path = module.replace(".", "/")
        assert f"{path}.pyi" in names
        assert any(
            name.startswith(f"{path}.") and name.endswith(".so") for name in names
        )
    assert {"iso8583/py.typed", "switch/py.typed"} <= names
    data = {str(path.relative_to(ROOT)) for path in ROOT.glob("iso8583/*/*.json")}
    assert {"iso8583/specs/iso87-ascii.json", "iso8583/data/emv.json"} <= data <= names
    own = {name for name in names if ".dist-info/" not in name}
    assert not {name for name in own if not name.startswith(("iso8583/", "switch/"))}


def test_the_sdist_has_sources_and_nothing_made(sdist):
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"LICENSE", "README.md", "setup.py", "ext/iso8583/_codec.pyx"} <= set(names)
    made = (".so", ".pyc", ".o")
    assert not [name for name in names if name.endswith(made)]
    assert not [
        name for name in names if name.startswith(("ext/", ".")) and name.endswith(".c")
    ]
