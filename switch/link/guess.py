"""Which framing and which specification some bytes are in, by trying all of them.

Rule 1: whoever is right cuts the bytes into whole frames, finds message types that
        exist, and walks every message to its end; nearly always only one does. What
        is left is settled by how much the fields look like what they should hold.
Rule 2: it says why, and names every other candidate that reads all of it too. A guess
        that another one could replace is called ambiguous.
Rule 3: no content of a field is in a reason.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

import iso8583
from iso8583.guess import TWINS, read
from switch.link._framing import FRAMING_NAMES, FrameReader, Framing
from switch.link.errors import FramingError, NoFramesError

# so many records of an input are looked at: more of them tell nothing new
SAMPLES_MAX: Final = 20
# ... and so many messages of a record that is a stream
MESSAGES_MAX: Final = 50

# sizes of records in an error
SIZES_TOLD_MAX: Final = 3

MTI_TEXTS: Final = {"bcd": "packed", "ascii": "ASCII"}


class Candidate(msgspec.Struct, frozen=True):
    """A framing (None: messages alone) with a specification, and how well it reads."""

    codec: iso8583.Codec
    framing: Framing | None
    score: float
    #: every message has a type that exists, and was walked to its end
    whole: bool
    #: the message type of the first message, if it could be read
    mti: str
    #: where the first message that isn't whole fails
    fault: str = ""

    @property
    def spec(self) -> str:
        return self.codec.spec.name

    @property
    def framing_name(self) -> str:
        return framing_text(self.framing)

    def __repr__(self) -> str:
        return f"Candidate({self.spec}, {self.framing_name}, {self.score:.1f})"


class Guess(msgspec.Struct, frozen=True):
    best: Candidate
    #: the others that read everything too, those that look most like it first
    ambiguous: tuple[Candidate, ...]
    #: the best of all others
    next_best: Candidate | None
    #: nothing else was to be tried: what there is was told, not guessed
    is_told: bool

    def why(self) -> str:
        """One line for people."""
        best = self.best
        parts = [
            _framing_reason(best),
            f"spec {best.spec}: {_mti_text(best)}, "
            + ("all fields walked to the end" if best.whole else best.fault),
        ]
        if self.ambiguous:
            others = ", ".join(_name(other) for other in self.ambiguous)
            parts.append(f"ambiguous: {others} would do as well")
        elif self.next_best is not None:
            other = self.next_best
            parts.append(f"next best {_name(other)}: {other.fault}")
        return "; ".join(parts)


def framing_text(framing: Framing | None) -> str:
    if framing is None:
        return "none"
    return f"{framing.name}, inclusive" if framing.inclusive else framing.name


def all_framings() -> list[Framing | None]:
    """Messages alone first: a header that isn't there is found out by its length."""
    pairs = itertools.product((False, True), FRAMING_NAMES)
    return [None, *(Framing(name, inclusive) for inclusive, name in pairs)]


def guess(
    records: Sequence[bytes],
    codecs: Iterable[iso8583.Codec],
    framings: Iterable[Framing | None],
    *,
    is_torn: bool = False,
) -> Guess:
    """Of what scores alike the first wins: the order of `framings` and `codecs` counts.

    `is_torn`: a record may end within a frame. Raises NoFramesError if no framing cuts
    any of the records into whole frames.
    """
    samples = records[:SAMPLES_MAX]
    known, tried = list(codecs), list(framings)
    candidates = []
    for framing in tried:
        bodies = [cut(record, framing, is_torn=is_torn) for record in samples]
        if any(bodies):
            candidates += [_try(codec, framing, bodies) for codec in known]
    if not candidates:
        names = " or ".join(map(framing_text, tried))
        sizes = ", ".join(str(len(record)) for record in samples[:SIZES_TOLD_MAX])
        raise NoFramesError(
            f"expected whole {names} frames, got records of {sizes or 'no'} bytes"
        )
    best, *others = sorted(candidates, key=lambda c: (-c.whole, -c.score))
    return Guess(
        best=best,
        ambiguous=tuple(
            other
            for other in others
            if best.whole and other.whole and TWINS.get(other.spec) != best.spec
        ),
        next_best=next((other for other in others if not other.whole), None),
        is_told=not others,
    )


def cut(
    record: bytes, framing: Framing | None, *, is_torn: bool = False
) -> list[bytes]:
    """The messages in it; none if it isn't made of whole frames."""
    if framing is None:
        return [record] if record else []
    reader = FrameReader(framing)
    try:
        bodies = reader.feed(record)
    except FramingError as error:
        return error.frames if is_torn else []
    return [] if reader.pending_size and not is_torn else bodies


def _try(
    codec: iso8583.Codec, framing: Framing | None, records: Sequence[list[bytes]]
) -> Candidate:
    score, mti, fault, count = 0.0, "", "", 0
    for bodies in records:
        if not bodies:
            fault = fault or f"expected whole {framing_text(framing)} frames"
            count += 1
        for body in bodies[:MESSAGES_MAX]:
            one = read(codec, body)
            score += one.score
            mti, fault = mti or one.mti, fault or one.fault
            count += 1
    return Candidate(
        codec=codec,
        framing=framing,
        score=score / count,
        whole=not fault,
        mti=mti,
        fault=fault,
    )


def _framing_reason(candidate: Candidate) -> str:
    if candidate.framing is None:
        return "framing none: the message begins with its type"
    return f"framing {candidate.framing_name}: the length fits"


def _mti_text(candidate: Candidate) -> str:
    if not candidate.mti:
        return "no MTI"
    encoding = candidate.codec.spec.mti
    # every other text codec that schemes use for it is one of IBM's
    said = MTI_TEXTS.get(encoding, "EBCDIC" if encoding[:2] == "cp" else encoding)
    return f"{said} MTI {candidate.mti}"


def _name(candidate: Candidate) -> str:
    return f"{candidate.spec}, framing {candidate.framing_name}"
