"""What protoc makes of the .proto files here.

python -m tests.style.generated     writes it beside them
"""

import shutil
import tempfile
from pathlib import Path

from grpc_tools import protoc

from tests.style.sources import ROOT

PROTOS = ("switch/ownership/etcd/protocol/etcd.proto",)
ENDINGS = ("_pb2.py", "_pb2.pyi")


def generated(directory: Path) -> dict[Path, Path]:
    """Where each file belongs, and where it was made."""
    for proto in PROTOS:
        words = [f"-I{ROOT}", f"--python_out={directory}", f"--pyi_out={directory}"]
        failed = protoc.main(["protoc", *words, proto])
        assert not failed, f"protoc does not take {proto}"
    return {
        ROOT / made.relative_to(directory): made
        for proto in PROTOS
        for ending in ENDINGS
        for made in [directory / (proto.removesuffix(".proto") + ending)]
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for place, made in generated(Path(directory)).items():
            shutil.copyfile(made, place)


if __name__ == "__main__":
    main()
