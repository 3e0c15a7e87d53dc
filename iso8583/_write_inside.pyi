from collections.abc import Mapping
from typing import Any

from iso8583._inside import Container

def encode_inside(
    container: Container, mapping: Mapping[Any, Any], place: str
) -> str | bytes: ...
