"""The native modules. Everything else about the package is in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

NATIVE_MODULES = [
    "iso8583._codec",
    "iso8583._documents",
    "iso8583._encode",
    "iso8583._inside",
    "iso8583._layout",
    "iso8583._path",
    "iso8583._read_inside",
    "iso8583._specdict",
    "iso8583._write_inside",
    "switch.flow._dispatch",
    "switch.keys._pan_hash",
    "switch.ledger._administer",
    "switch.ledger._apply",
    "switch.ledger._decide",
    "switch.ledger._dump",
    "switch.ledger._entry",
    "switch.ledger._request",
    "switch.ledger._state",
    "switch.link._connection",
    "switch.link._counters",
    "switch.link._endpoint",
    "switch.link._forwarding",
    "switch.link._framing",
    "switch.peer._replies",
    "switch.projection._rows",
    "switch.publish._event_fields",
    "switch.publish._event_json",
    "switch.publish._packer",
    "switch.publish._record_batch",
    "switch.replay._traffic",
    "switch.shard._directory",
    "switch.shard._group",
]

# -O3 because distributions build Python itself, and with it every extension, at -O2,
# and the field walk and the ledger's tables gain from inlining. CARDSWITCH_CFLAGS is
# for builds that trade speed for time, such as the packaging test's.
COMPILE_ARGUMENTS = os.environ.get("CARDSWITCH_CFLAGS", "-O3").split()

# Each message is zeroed as it is made: half a kilobyte, for which compilers write an
# instruction (rep stos) that takes as long to start as the library's memset in all.
MODULE_ARGUMENTS = {"iso8583._codec": ["-fno-builtin-memset"]}

WORKERS = os.cpu_count() or 1

setup(
    ext_modules=cythonize(
        [
            Extension(
                module,
                [f"ext/{module.replace('.', '/')}.pyx"],
                extra_compile_args=[
                    *COMPILE_ARGUMENTS,
                    *MODULE_ARGUMENTS.get(module, []),
                    "-Wno-unused-function",
                ],
            )
            for module in NATIVE_MODULES
        ],
        include_path=["ext"],
        compiler_directives={"language_level": 3},
        nthreads=WORKERS,
        # What Cython warns of is an error in spirit; the build says it, once.
        show_all_warnings=False,
    ),
    options={"build_ext": {"parallel": WORKERS}},
)
