"""Network captures made by hand: the packets of conversations, as a tap sees them."""

import io
import socket
from collections.abc import Iterable

import dpkt

SWITCH_PORT = 8583
SCHEME, SWITCH = "10.0.0.1", "10.0.0.2"


def _address(text: str) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text)


class Conversation:
    """One TCP connection; `packets` is what passed, with the time of each."""

    def __init__(
        self,
        port: int = 40_000,
        *,
        addresses: tuple[str, str] = (SCHEME, SWITCH),
        switch_port: int = SWITCH_PORT,
        sequences: tuple[int, int] = (1000, 2000),
        vlan: int | None = None,
        at: float = 1_700_000_000.0,
        step: float = 0.001,
    ) -> None:
        self.packets: list[tuple[float, bytes]] = []
        self._ends = [(addresses[0], port), (addresses[1], switch_port)]
        self._next = list(sequences)
        self._vlan = vlan
        self._step = step
        self.at = at

    def open(self) -> "Conversation":
        self.packet(0, b"", dpkt.tcp.TH_SYN)
        self._next[0] += 1
        self.packet(1, b"", dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK)
        self._next[1] += 1
        return self

    def to_switch(self, data: bytes) -> "Conversation":
        return self._send(0, data)

    def from_switch(self, data: bytes) -> "Conversation":
        return self._send(1, data)

    def lose(self, side: int, size: int) -> "Conversation":
        """Bytes that were sent and that the capture does not have."""
        self._next[side] += size
        return self

    def close(self) -> "Conversation":
        self.packet(0, b"", dpkt.tcp.TH_FIN | dpkt.tcp.TH_ACK)
        self.packet(1, b"", dpkt.tcp.TH_FIN | dpkt.tcp.TH_ACK)
        return self

    def _send(self, side: int, data: bytes) -> "Conversation":
        self.packet(side, data, dpkt.tcp.TH_ACK | dpkt.tcp.TH_PUSH)
        self._next[side] += len(data)
        return self

    def packet(
        self, side: int, data: bytes, flags: int, sequence: int | None = None
    ) -> None:
        (source, source_port), (target, target_port) = (
            self._ends[side],
            self._ends[1 - side],
        )
        tcp = dpkt.tcp.TCP(
            sport=source_port,
            dport=target_port,
            seq=(self._next[side] if sequence is None else sequence) % (1 << 32),
            ack=self._next[1 - side] % (1 << 32),
            flags=flags,
            data=data,
        )
        self.packets.append((self.at, self._frame(tcp, source, target)))
        self.at += self._step

    def _frame(self, tcp, source: str, target: str) -> bytes:
        if ":" in source:
            kind = dpkt.ethernet.ETH_TYPE_IP6
            packet = dpkt.ip6.IP6(
                src=_address(source),
                dst=_address(target),
                nxt=dpkt.ip.IP_PROTO_TCP,
                plen=len(tcp),
                data=tcp,
            )
            packet.extension_hdrs = {}
        else:
            kind = dpkt.ethernet.ETH_TYPE_IP
            packet = dpkt.ip.IP(
                src=_address(source),
                dst=_address(target),
                p=dpkt.ip.IP_PROTO_TCP,
                data=tcp,
            )
            packet.len = len(packet)
        body = bytes(packet)
        if self._vlan is not None:
            tag = self._vlan.to_bytes(2) + kind.to_bytes(2)
            kind, body = dpkt.ethernet.ETH_TYPE_8021Q, tag + body
        # Ethernet fills short packets up: those bytes are not the stream's
        frame: bytes = bytes(12) + kind.to_bytes(2) + body
        return frame.ljust(60, b"\xee")


def pcap(
    packets: Iterable[tuple[float, bytes]], link_type: int = 1, *, nano: bool = False
) -> bytes:
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file, linktype=link_type, nano=nano)
    for at, data in packets:
        writer.writepkt(data, at)
    return file.getvalue()


def pcapng(packets: Iterable[tuple[float, bytes]], link_type: int = 1) -> bytes:
    file = io.BytesIO()
    writer = dpkt.pcapng.Writer(file, linktype=link_type)
    for at, data in packets:
        writer.writepkt(data, at)
    return file.getvalue()
