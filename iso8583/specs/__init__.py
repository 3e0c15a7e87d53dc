"""The two specs of pyiso8583's interface. Its users copy them, and edit the copies.

The JSON files beside this module are the codec's own (`iso8583.load_spec`).
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["default", "default_ascii"]

A: Final = "ascii"
# Bytes as they are.
B: Final = "b"

# Key, encoding, digits of the length prefix, length or maximum, description: the
# descriptions are pyiso8583's, since programs print them.
_FIELDS: Final = (
    ("h", A, 0, 0, "Message Header"),
    ("t", A, 0, 4, "Message Type"),
    ("p", B, 0, 8, "Bitmap, Primary"),
    ("1", B, 0, 8, "Bitmap, Secondary"),
    ("2", A, 2, 19, "Primary Account Number (PAN)"),
    ("3", A, 0, 6, "Processing Code"),
    ("4", A, 0, 12, "Amount, Transaction"),
    ("5", A, 0, 12, "Amount, Settlement"),
    ("6", A, 0, 12, "Amount, Cardholder Billing"),
    ("7", A, 0, 10, "Transmission Date and Time"),
    ("8", A, 0, 8, "Amount, Cardholder Billing Fee"),
    ("9", A, 0, 8, "Conversion Rate, Settlement"),
    ("10", A, 0, 8, "Conversion Rate, Cardholder Billing"),
    ("11", A, 0, 6, "System Trace Audit Number"),
    ("12", A, 0, 6, "Time, Local Transaction"),
    ("13", A, 0, 4, "Date, Local Transaction"),
    ("14", A, 0, 4, "Date, Expiration"),
    ("15", A, 0, 4, "Date, Settlement"),
    ("16", A, 0, 4, "Date, Conversion"),
    ("17", A, 0, 4, "Date, Capture"),
    ("18", A, 0, 4, "Merchant Type"),
    ("19", A, 0, 3, "Acquiring Institution Country Code"),
    ("20", A, 0, 3, "PAN Country Code"),
    ("21", A, 0, 3, "Forwarding Institution Country Code"),
    ("22", A, 0, 3, "Point-of-Service Entry Mode"),
    ("23", A, 0, 3, "PAN Sequence Number"),
    ("24", A, 0, 3, "Network International ID (NII)"),
    ("25", A, 0, 2, "Point-of-Service Condition Code"),
    ("26", A, 0, 2, "Point-of-Service Capture Code"),
    ("27", A, 0, 1, "Authorizing ID Response Length"),  # tidy: allow
    ("28", A, 0, 9, "Amount, Transaction Fee"),
    ("29", A, 0, 9, "Amount, Settlement Fee"),
    ("30", A, 0, 9, "Amount, Transaction Processing Fee"),
    ("31", A, 0, 9, "Amount, Settlement Processing Fee"),
    ("32", A, 2, 11, "Acquiring Institution ID Code"),
    ("33", A, 2, 11, "Forwarding Institution ID Code"),
    ("34", A, 2, 28, "Primary Account Number, Extended"),
    ("35", A, 2, 37, "Track 2 Data"),
    ("36", A, 3, 104, "Track 3 Data"),
    ("37", A, 0, 12, "Retrieval Reference Number"),
    ("38", A, 0, 6, "Authorization ID Response"),  # tidy: allow
    ("39", A, 0, 2, "Response Code"),
    ("40", A, 0, 3, "Service Restriction Code"),
    ("41", A, 0, 8, "Card Acceptor Terminal ID"),
    ("42", A, 0, 15, "Card Acceptor ID Code"),
    ("43", A, 0, 40, "Card Acceptor Name/Location"),
    ("44", A, 2, 25, "Additional Response Data"),
    ("45", A, 2, 76, "Track 1 Data"),
    ("46", A, 3, 999, "Additional Data - ISO"),
    ("47", A, 3, 999, "Additional Data - National"),
    ("48", A, 3, 999, "Additional Data - Private"),
    ("49", A, 0, 3, "Currency Code, Transaction"),
    ("50", A, 0, 3, "Currency Code, Settlement"),
    ("51", A, 0, 3, "Currency Code, Cardholder Billing"),
    ("52", B, 0, 8, "PIN"),
    ("53", A, 0, 16, "Security-Related Control Information"),
    ("54", A, 3, 240, "Additional Amounts"),
    ("55", B, 3, 255, "ICC data"),
    ("56", A, 3, 999, "Reserved ISO"),
    ("57", A, 3, 999, "Reserved National"),
    ("58", A, 3, 999, "Reserved National"),
    ("59", A, 3, 999, "Reserved National"),
    ("60", A, 3, 999, "Reserved National"),
    ("61", A, 3, 999, "Reserved Private"),
    ("62", A, 3, 999, "Reserved Private"),
    ("63", A, 3, 999, "Reserved Private"),
    ("64", B, 0, 8, "MAC"),
    ("65", B, 0, 8, "Bitmap, Extended"),
    ("66", A, 0, 1, "Settlement Code"),
    ("67", A, 0, 2, "Extended Payment Code"),
    ("68", A, 0, 3, "Receiving Institution Country Code"),
    ("69", A, 0, 3, "Settlement Institution Country Code"),
    ("70", A, 0, 3, "Network Management Information Code"),
    ("71", A, 0, 4, "Message Number"),
    ("72", A, 0, 4, "Message Number, Last"),
    ("73", A, 0, 6, "Date, Action"),
    ("74", A, 0, 10, "Credits, Number"),
    ("75", A, 0, 10, "Credits, Reversal Number"),
    ("76", A, 0, 10, "Debits, Number"),
    ("77", A, 0, 10, "Debits, Reversal Number"),
    ("78", A, 0, 10, "Transfer, Number"),
    ("79", A, 0, 10, "Transfer, Reversal Number"),
    ("80", A, 0, 10, "Inquiries, Number"),
    ("81", A, 0, 10, "Authorizations, Number"),  # tidy: allow
    ("82", A, 0, 12, "Credits, Processing Fee Amount"),
    ("83", A, 0, 12, "Credits, Transaction Fee Amount"),
    ("84", A, 0, 12, "Debits, Processing Fee Amount"),
    ("85", A, 0, 12, "Debits, Transaction Fee Amount"),
    ("86", A, 0, 16, "Credits, Amount"),
    ("87", A, 0, 16, "Credits, Reversal Amount"),
    ("88", A, 0, 16, "Debits, Amount"),
    ("89", A, 0, 16, "Debits, Reversal Amount"),
    ("90", A, 0, 42, "Original Data Elements"),
    ("91", A, 0, 1, "File Update Code"),
    ("92", A, 0, 2, "File Security Code"),
    ("93", A, 0, 5, "Response Indicator"),
    ("94", A, 0, 7, "Service Indicator"),
    ("95", A, 0, 42, "Replacement Amounts"),
    ("96", B, 0, 8, "Message Security Code"),
    ("97", A, 0, 17, "Amount, Net Settlement"),
    ("98", A, 0, 25, "Payee"),
    ("99", A, 2, 11, "Settlement Institution ID Code"),
    ("100", A, 2, 11, "Receiving Institution ID Code"),
    ("101", A, 2, 17, "File Name"),
    ("102", A, 2, 28, "Account ID 1"),
    ("103", A, 2, 28, "Account ID 2"),
    ("104", A, 3, 100, "Transaction Description"),
    ("105", A, 3, 999, "Reserved for ISO Use"),
    ("106", A, 3, 999, "Reserved for ISO Use"),
    ("107", A, 3, 999, "Reserved for ISO Use"),
    ("108", A, 3, 999, "Reserved for ISO Use"),
    ("109", A, 3, 999, "Reserved for ISO Use"),
    ("110", A, 3, 999, "Reserved for ISO Use"),
    ("111", A, 3, 999, "Reserved for ISO Use"),
    ("112", A, 3, 999, "Reserved for National Use"),
    ("113", A, 3, 999, "Reserved for National Use"),
    ("114", A, 3, 999, "Reserved for National Use"),
    ("115", A, 3, 999, "Reserved for National Use"),
    ("116", A, 3, 999, "Reserved for National Use"),
    ("117", A, 3, 999, "Reserved for National Use"),
    ("118", A, 3, 999, "Reserved for National Use"),
    ("119", A, 3, 999, "Reserved for National Use"),
    ("120", A, 3, 999, "Reserved for Private Use"),
    ("121", A, 3, 999, "Reserved for Private Use"),
    ("122", A, 3, 999, "Reserved for Private Use"),
    ("123", A, 3, 999, "Reserved for Private Use"),
    ("124", A, 3, 999, "Reserved for Private Use"),
    ("125", A, 3, 999, "Reserved for Private Use"),
    ("126", A, 3, 999, "Reserved for Private Use"),
    ("127", A, 3, 999, "Reserved for Private Use"),
    ("128", B, 0, 8, "MAC"),
)


def _make(*, in_hex: bool) -> dict[str, dict[str, Any]]:
    """With binary data as it is, or as two hex digits a byte."""
    spec: dict[str, dict[str, Any]] = {}
    for key, encoding, prefix_size, length, description in _FIELDS:
        becomes_hex = in_hex and encoding == B
        spec[key] = {
            "data_enc": A if becomes_hex else encoding,
            "len_enc": A,
            "len_type": prefix_size,
            "max_len": 2 * length if becomes_hex else length,
            "desc": description,
        }
    return spec


default = _make(in_hex=False)
default_ascii = _make(in_hex=True)
