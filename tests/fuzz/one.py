"""One target under atheris: started by `tests.fuzz.run` with the instrumented build.

python -m tests.fuzz.one TARGET LIBFUZZER-OPTION...
"""

import sys

import atheris

from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target, enable_python_coverage=False)
    atheris.Fuzz()
