"""A table of rules: which request gets which answer. The first that matches counts.

Without any rule everything is approved. A request that no rule is for is not answered.
"""

import random
from collections.abc import Sequence
from typing import Final

import msgspec

import iso8583
from switch.replay.client import answer_mti
from switch.replay.compose import MTI, NETWORK_CLASS, Composer, Fields, field_names
from switch.replay.expect import value_of
from switch.replay.request import APPROVED_CODE, ECHOED_FIELDS
from switch.replay.scenario import Rule

# what an answer has of its request: all that says which it is, and what about
REPLY_FIELDS: Final = (
    *(2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 28, 32, 33, 37),
    *(41, 42, 49, 50, 51, 70, 90, 95),
)
APPROVE_ALL: Final = Rule(name="approve")
APPROVAL_FIELD: Final = 38
APPROVAL_SIZE: Final = 6
ADVICE_ANSWER: Final = "3"
_LETTERS: Final = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"


class Reply(msgspec.Struct, frozen=True):
    """`body` None: the rule says that there is no answer."""

    rule: str
    body: bytes | None
    delay_s: float


class RuleTable:
    def __init__(
        self, rules: Sequence[Rule], composer: Composer, draw: random.Random
    ) -> None:
        self._composer = composer
        self._draw = draw
        self._rules = [
            (rule, field_names(rule.match), field_names(rule.fields))
            for rule in rules or (APPROVE_ALL,)
        ]
        self._templates: dict[str, iso8583.ReplyTemplate] = {}

    @property
    def names(self) -> list[str]:
        return [name_of(rule, n) for n, (rule, *_) in enumerate(self._rules, start=1)]

    def answer(self, request: iso8583.Message) -> Reply | None:
        """None: there is no rule for it. Network management needs one that names it."""
        network = request.mti[1] == NETWORK_CLASS
        for number, (rule, wanted, fields) in enumerate(self._rules, start=1):
            if network and MTI not in wanted:
                continue
            if all(
                self._composer.matches(field, pattern, value_of(request, field))
                for field, pattern in wanted.items()
            ):
                body = None if rule.drop else self._build(request, rule, fields)
                return Reply(name_of(rule, number), body, rule.delay_ms / 1000)
        return None

    def _build(self, request: iso8583.Message, rule: Rule, fields: Fields) -> bytes:
        approval = None
        # an advice has the approval code of whoever approved it
        if rule.answer == APPROVED_CODE and request.mti[1:3] in ("10", "20"):
            approval = "".join(self._draw.choices(_LETTERS, k=APPROVAL_SIZE))
        template = self._template(answer_mti(request.mti))
        body = template.build(request, rule.answer, approval)
        if not fields:
            return body
        reply = request.codec.decode(body)
        for field, value in fields.items():
            if not isinstance(field, int):
                reply.mti = value
            elif value:
                reply[field] = self._composer.fit(field, value)
            elif field in reply:
                del reply[field]
        return reply.encode()

    def _template(self, mti: str) -> iso8583.ReplyTemplate:
        if mti not in self._templates:
            codec = self._composer.codec
            copied = ECHOED_FIELDS if mti[1] == NETWORK_CLASS else REPLY_FIELDS
            if mti[2] == ADVICE_ANSWER:
                copied = (*copied, APPROVAL_FIELD)
            known = [field for field in copied if field in codec.spec.fields]
            self._templates[mti] = iso8583.ReplyTemplate(codec, mti, known)
        return self._templates[mti]


def name_of(rule: Rule, number: int) -> str:
    return rule.name or f"rule {number}"
