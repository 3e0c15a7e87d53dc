"""pyiso8583 as a process of its own: it has this project's import name.

Run as a program, it is that process: it answers each line of JSON on standard input,
{"spec": ..., "decode": hex} or {"spec": ..., "encode": fields}, with one.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import iso8583

VERSION = "4.0.1"
CACHE = Path(__file__).resolve().parents[2] / ".cache"


def installed() -> Path:
    """The folder that has pyiso8583, and nothing else; fetched the first time."""
    folder = CACHE / f"pyiso8583-{VERSION}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        # Whole or not at all, whoever else is at it.
        fresh = Path(tempfile.mkdtemp(dir=CACHE))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        pip += ["--disable-pip-version-check", "--root-user-action=ignore"]
        subprocess.run(
            [*pip, "--target", str(fresh), f"pyiso8583=={VERSION}"], check=True
        )
        try:
            fresh.rename(folder)
        except OSError:
            shutil.rmtree(fresh)
    return folder


def as_pyiso8583(spec: iso8583.Spec) -> dict[str, dict[str, Any]]:
    """The same spec in pyiso8583's terms."""
    fixed = {"len_enc": "ascii", "len_type": 0, "desc": ""}
    mti = {**fixed, "data_enc": "b" if spec.mti == "bcd" else spec.mti, "max_len": 4}
    bitmap = {**fixed, "data_enc": "b", "max_len": 8}
    if spec.bitmap == "hex":
        bitmap = {**fixed, "data_enc": "ascii", "max_len": 16}
    header_size = 0 if spec.header is None else spec.header.size
    result = {"h": {**fixed, "data_enc": "b", "max_len": header_size}, "t": mti}
    result |= {"p": bitmap, "1": bitmap}
    for number in spec.fields:
        field = spec.field(number)
        prefix_encoding = field.prefix_encoding
        packed = field.encoding in ("bcd", "binary")
        result[str(number)] = {
            "data_enc": "b" if packed else field.encoding,
            "len_enc": "b" if prefix_encoding == "binary" else prefix_encoding,
            "len_type": field.prefix_size,
            "max_len": field.length,
            "len_count": "nibbles" if field.unit == "digits" else "bytes",
            f"{field.pad}_pad": f"{field.pad_nibble:X}",
            "desc": field.name,
        }
    return result


class Reference:
    """Asks pyiso8583, with its own specs by name or any of ours in its terms."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(installed())},
        )

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def define(self, name: str, spec: iso8583.Spec) -> None:
        assert self.ask({"define": name, "as": as_pyiso8583(spec)}) == "defined"

    def encode(self, spec: str, fields: dict[int | str, str]) -> bytes:
        document = {str(key): value for key, value in fields.items()}
        document["t"] = document.pop("mti")
        if "header" in document:
            document["h"] = document.pop("header")
        answer = self.ask({"spec": spec, "encode": document})
        return bytes.fromhex(answer["data"])

    def decode(self, spec: str, data: bytes) -> dict[int | str, str] | None:
        """The fields, or None when pyiso8583 refuses the bytes."""
        answer = self.ask({"spec": spec, "decode": data.hex()})
        if "error" in answer:
            return None
        document = answer["document"]
        fields: dict[int | str, str] = {"mti": document.pop("t")}
        if "h" in document:
            fields["header"] = document.pop("h")
        for key in sorted(document.keys() - {"p", "1"}, key=int):
            fields[int(key)] = document[key]
        return fields

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)


def _answer(codec: Any, specs: dict[str, Any], question: dict[str, Any]) -> Any:
    if "define" in question:
        specs[question["define"]] = question["as"]
        return "defined"
    spec = specs[question["spec"]]
    try:
        if "encode" in question:
            data, _ = codec.encode(question["encode"], spec)
            return {"data": data.hex()}
        document, _ = codec.decode(bytes.fromhex(question["decode"]), spec)
    except ValueError as error:
        return {"error": str(error)}
    except KeyError as error:
        return {"error": f"field {error} is not in the spec"}
    return {"document": document}


def _serve() -> None:
    codec = importlib.import_module("iso8583")
    shipped = importlib.import_module("iso8583.specs")
    specs = {
        name: copy.deepcopy(getattr(shipped, name))
        for name in ("default", "default_ascii")
    }
    for line in sys.stdin:
        answer = _answer(codec, specs, json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
