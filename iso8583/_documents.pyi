from collections.abc import MutableMapping

from iso8583.documents import Decoded, Encoded, SpecDict

def decode(s: bytes | bytearray, spec: SpecDict) -> tuple[Decoded, Encoded]: ...
def encode(
    doc_dec: MutableMapping[str, str], spec: SpecDict
) -> tuple[bytearray, Encoded]: ...
