"""What response codes (field 39) say, for people."""

from typing import Final

RESPONSE_TEXTS: Final = {
    "00": "approved",
    "05": "do not honour",
    "12": "invalid transaction",
    "13": "invalid amount",
    "14": "no such card",
    "30": "format error",
    "41": "lost card",
    "43": "stolen card",
    "51": "insufficient funds",
    "54": "expired card",
    "57": "not permitted to cardholder",
    "62": "restricted card",
    "91": "issuer inoperative",
    "96": "system malfunction",
}


def response_text(code: str) -> str:
    return RESPONSE_TEXTS.get(code, "other")


def code_label(code: str) -> str:
    return f"{code} {response_text(code)}" if code else "-- no field 39"
