from typing import final

from iso8583.spec import Spec

@final
class Layout:
    def __new__(cls, spec: Spec) -> Layout: ...
