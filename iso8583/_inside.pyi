# Native only, but that the codec asks for a mapping's bytes.
from collections.abc import Mapping
from typing import Any, final

from iso8583._layout import Layout
from iso8583.spec import FieldSpec, Spec

@final
class Element:
    def __new__(
        cls, layout: Layout, field: FieldSpec, spec: Spec, step: str, plain_prefix: int
    ) -> Element: ...

@final
class Container:
    def __new__(
        cls, layout: Layout, field: FieldSpec, spec: Spec, is_template: bool = False
    ) -> Container: ...
    def plain(self, index: int) -> int: ...
    def encode(self, mapping: Mapping[Any, Any], place: str) -> str | bytes: ...
