"""stubtest: each native module against the stub beside it.

python -m tests.style.stubs
"""

import subprocess
import sys

from tests.style.sources import ROOT, native_modules

ALLOWED = ROOT / "tests/style/stubtest_allowed.txt"


def main() -> int:
    command = [sys.executable, "-m", "mypy.stubtest", "--concise"]
    # Every Cython class has a layout of its own, and nobody mixes two of them.
    command += ["--ignore-disjoint-bases"]
    command += ["--mypy-config-file", "pyproject.toml"]
    command += ["--allowlist", str(ALLOWED), "--ignore-unused-allowlist"]
    return subprocess.run([*command, *native_modules()], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
