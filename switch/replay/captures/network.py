"""Network captures: pcap and pcapng, as tcpdump and Wireshark write them.

The files and the packets in them are read by dpkt. IP fragments are left out and
counted: TCP does not send any by itself. Of a pcapng file, all packets are taken to be
of the kind of its first interface.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import dpkt

from switch.replay.captures.chunks import CaptureFormat, Chunk, ReadOptions, Shape
from switch.replay.captures.streams import Segment, Streams
from switch.replay.errors import CaptureError

PCAPNG_MAGIC: Final = bytes.fromhex("0a0d0d0a")
PCAP_MAGICS: Final = frozenset(
    magic.to_bytes(4, order)
    for magic in (dpkt.pcap.TCPDUMP_MAGIC, dpkt.pcap.TCPDUMP_MAGIC_NANO)
    for order in ("big", "little")
)
# libpcap's own bound for a packet: a length beyond it is damage
BLOCK_SIZE_MAX: Final = 262_144 + 4096

NOTE_FRAGMENT: Final = "IP fragments, left out"
NOTE_NOT_TCP: Final = "packets without TCP, left out"
NOTE_TRUNCATED: Final = "the capture ends within a packet"

# -- the numbers of the pcap format, which are not those of every system
RAW_IP: Final = (12, 14, 101, 228, 229)
LINUX_COOKED_2: Final = 276
_PACKETS: Final[dict[int, Callable[[bytes], Any]]] = {
    dpkt.pcap.DLT_NULL: dpkt.loopback.Loopback,
    dpkt.pcap.DLT_LOOP: dpkt.loopback.Loopback,
    dpkt.pcap.DLT_EN10MB: dpkt.ethernet.Ethernet,
    dpkt.pcap.DLT_LINUX_SLL: dpkt.sll.SLL,
    LINUX_COOKED_2: dpkt.sll2.SLL2,
}
# What dpkt says of bytes that are not what they should be.
_FAULTS: Final = (dpkt.Error, struct.error, ValueError, IndexError)


class _Bounded:
    """A file from which no damaged length reads more than a packet."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= BLOCK_SIZE_MAX:
            raise ValueError(f"expected a packet of at most {BLOCK_SIZE_MAX} bytes")
        data = self._file.read(size)
        if 0 < len(data) < size:
            raise ValueError(f"expected {size} bytes, got {len(data)}")
        return data


def read(
    file: BinaryIO, name: str, options: ReadOptions, notes: Counter[str]
) -> Iterator[Chunk]:
    streams = Streams(options)
    for number, time_s, packet in _packets(file, name, notes):
        segment = _segment(f"packet {number}", time_s, packet, notes)
        if segment is not None:
            yield from streams.add(segment)
    yield from streams.end()


def _packets(
    file: BinaryIO, name: str, notes: Counter[str]
) -> Iterator[tuple[int, float, Any]]:
    number = 0
    try:
        is_new = file.read(4) == PCAPNG_MAGIC
        file.seek(0)
        source = _Bounded(file, name)
        reader = dpkt.pcapng.Reader(source) if is_new else dpkt.pcap.Reader(source)
        parse = _parser(reader.datalink(), name)
        for time_s, data in reader:
            number += 1
            try:
                packet = parse(data)
            except _FAULTS:
                notes[NOTE_NOT_TCP] += 1
            else:
                yield number, float(time_s), packet
    except _FAULTS as error:
        if not file.read(1):
            # Whoever captured was interrupted: what is whole is taken.
            notes[NOTE_TRUNCATED] += 1
            return
        raise CaptureError(
            f"{name}: behind packet {number}: expected a network capture, got damage "
            f"({error})"
        ) from error


def _parser(link_type: int, name: str) -> Callable[[bytes], Any]:
    if link_type in RAW_IP:
        return lambda data: (
            dpkt.ip6.IP6(data) if data[0] >> 4 == 6 else dpkt.ip.IP(data)
        )
    if link_type not in _PACKETS:
        raise CaptureError(
            f"{name}: expected packets of Ethernet, Linux cooked, loopback or raw IP, "
            f"got link type {link_type}"
        )
    return _PACKETS[link_type]


def _segment(
    place: str, time_s: float, packet: Any, notes: Counter[str]
) -> Segment | None:
    while not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
        packet = getattr(packet, "data", None)
        if not isinstance(packet, dpkt.Packet):
            notes[NOTE_NOT_TCP] += 1
            return None
    if _is_fragment(packet):
        notes[NOTE_FRAGMENT] += 1
        return None
    tcp = packet.data
    if not isinstance(tcp, dpkt.tcp.TCP):
        notes[NOTE_NOT_TCP] += 1
        return None
    return Segment(
        place=place,
        time_s=time_s,
        source=(packet.src, tcp.sport),
        target=(packet.dst, tcp.dport),
        sequence=tcp.seq,
        data=bytes(tcp.data),
        syn=bool(tcp.flags & dpkt.tcp.TH_SYN),
        ack=bool(tcp.flags & dpkt.tcp.TH_ACK),
    )


def _is_fragment(packet: Any) -> bool:
    if isinstance(packet, dpkt.ip.IP):
        return bool(packet.mf or packet.offset)
    return any(
        isinstance(header, dpkt.ip6.IP6FragmentHeader)
        for header in packet.all_extension_headers
    )


def _recognise_pcap(head: bytes) -> str | None:
    return "it begins as pcap does" if head[:4] in PCAP_MAGICS else None


def _recognise_pcapng(head: bytes) -> str | None:
    return "it begins as pcapng does" if head[:4] == PCAPNG_MAGIC else None


PCAP: Final = CaptureFormat(
    name="pcap", shape=Shape.STREAM, recognise=_recognise_pcap, read=read
)
PCAPNG: Final = CaptureFormat(
    name="pcapng", shape=Shape.STREAM, recognise=_recognise_pcapng, read=read
)
