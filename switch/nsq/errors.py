"""What can go wrong with an nsqd.

NsqError
 +- NsqProtocolError     it says what is no frame, or answers what was not asked
 +- NsqAnswerError       it says that it will not: an error frame
 +- NsqConnectionError   it is not there, or not any more
"""

from typing import Final

# What it finds wrong with a message itself, whoever sends it and when.
BODY_REFUSED: Final = "E_BAD_BODY"
REFUSALS: Final = ("E_BAD_MESSAGE", BODY_REFUSED)


class NsqError(Exception):
    """What was expected, what came, where."""


class NsqProtocolError(NsqError):
    pass


class NsqConnectionError(NsqError):
    pass


class NsqAnswerError(NsqError):
    """`code` is the first word of what it said, such as E_BAD_TOPIC."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]
