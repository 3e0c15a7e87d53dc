import base64
import io

import dpkt
import pytest

import iso8583
from switch.link._framing import FRAMING_NAMES, Framing
from switch.replay.captures import FORMATS, Capture, ReadOptions, recognise
from switch.replay.captures.cutting import cut_header
from switch.replay.captures.jpos import parse_time
from switch.replay.captures.text import parse_lines
from switch.replay.errors import CaptureError
from tests.unit.replay.packets import SWITCH_PORT, Conversation, pcap, pcapng

BINARY2 = Framing("binary2")
CODEC = iso8583.Codec(iso8583.load_spec("iso87-ascii"))
PAN = "9999990000000014"


def capture_of(data: bytes, format_name: str | None = None, **options) -> Capture:
    return Capture(io.BytesIO(data), "x", ReadOptions(**options), format_name)


def read(data: bytes, framing: Framing = BINARY2, **options):
    return list(capture_of(data, **options).frames(framing))


def bodies(data: bytes, framing: Framing = BINARY2, **options) -> list[bytes]:
    return [frame.body for frame in read(data, framing, **options)]


# -- lines


def test_comments_and_blanks_are_passed_over():
    frames = read(b"# two frames\n\n0002 0a0b # one\n00010C\n")
    assert [(frame.place, frame.body) for frame in frames] == [
        ("line 3", b"\x0a\x0b"),
        ("line 4", b"\x0c"),
    ]


def test_base64_lines_are_frames_too():
    lines = [base64.b64encode(BINARY2.encode(body)) for body in (b"hello", b"world!")]
    assert bodies(b"\n".join(lines)) == [b"hello", b"world!"]


def test_a_frame_is_cut_only_when_it_is_exactly_one():
    framing = Framing("ascii4")
    assert cut_header(b"0002ab", framing) == b"ab"
    for frame in (b"0003ab", b"0001ab", b"00x2ab", b"0002", b"", b"0001a0001b"):
        assert cut_header(frame, framing) is None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("000zff", "x: line 1: expected hex digits, got another character at 4"),
        ("000", "x: line 1: expected an even number of hex digits, got 3"),
    ],
)
def test_bad_hex_is_told_by_place(line, fault):
    with pytest.raises(CaptureError, match=fault):
        list(parse_lines([line], "x"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"AAF=B", "x: line 1: expected base64 in whole groups of 4 characters, got 5"),
        (b"AA-F", "x: line 1: expected base64, got another character at 3"),
    ],
)
def test_bad_base64_is_told_by_place(text, fault):
    with pytest.raises(CaptureError, match=fault):
        list(capture_of(text, "base64").frames(BINARY2))


def test_a_line_that_does_not_end_is_not_kept():
    with pytest.raises(CaptureError, match="x: line 2: expected at most 262144"):
        read(b"000141\n" + b"00" * 200_000)


def test_a_frame_of_another_framing_is_told():
    assert bodies(b"0001000041\n", Framing("binary4")) == [b"A"]
    with pytest.raises(CaptureError, match="line 1: expected one whole binary2 frame"):
        read(b"0001000041\n")


def test_lines_without_headers_are_messages():
    frames = list(capture_of(b"30313030\n").frames(None))
    assert [frame.body for frame in frames] == [b"0100"]


# -- a stream in a file


@pytest.mark.parametrize("name", FRAMING_NAMES)
@pytest.mark.parametrize("is_inclusive", [False, True])
def test_a_stream_is_cut_in_any_framing(name, is_inclusive):
    framing = Framing(name, is_inclusive)
    sent = [b"0100 a", b"x" * 4000, b"0110 c"] * 40
    data = b"".join(map(framing.encode, sent))
    frames = list(capture_of(data, "binary").frames(framing))
    assert [frame.body for frame in frames] == sent
    assert frames[1].place == "message 2"


def test_a_stream_that_is_no_frames_or_torn_is_told():
    one = BINARY2.encode(b"0100")
    with pytest.raises(CaptureError, match="behind message 1: binary2 frame at"):
        read(one + b"\xff\xff\xff")
    with pytest.raises(CaptureError, match="behind message 1: expected a whole"):
        read(one + one[:-1])


# -- recognising


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("hex", b"# a capture\n0002abcd\n0003ab"),
        ("base64", b"AAVoZWxsbw==\nAAZ3b3JsZCE=\n"),
        ("binary", BINARY2.encode(b"0100\xf2")),
        ("binary", b"0012" + b"0100 AAAAAAA"),
        ("pcap", pcap([])),
        ("pcap", pcap([], nano=True)),
        ("pcapng", pcapng([])),
        ("jpos", b'<log realm="x" at="">\n'),
        ("jpos", b"12:00 started\n<isomsg>"),
    ],
)
def test_a_format_is_recognised_by_what_is_in_the_file(name, head):
    found, why = recognise(head, "x")
    assert found.name == name
    assert why


def test_what_is_no_capture_is_told_and_a_format_may_be_given():
    with pytest.raises(CaptureError, match=r"x: expected a capture \(pcapng, .*other"):
        capture_of(b"hello,\nworld\n")
    with pytest.raises(CaptureError, match="an empty file"):
        capture_of(b"")
    with pytest.raises(CaptureError, match=r"format: expected one of .*, got 'tar'"):
        capture_of(b"00", "tar")
    assert capture_of(b"00", "base64").format.name == "base64"
    assert len({each.name for each in FORMATS}) == len(FORMATS)


def test_a_capture_may_be_read_again():
    capture = capture_of(pcap(Conversation().open().to_switch(b"\0\1a").packets))
    first, second = list(capture.frames(BINARY2)), list(capture.frames(BINARY2))
    assert first == second
    assert [frame.body for frame in first] == [b"a"]
    assert capture.position == capture.size


# -- network captures


def shop(conversation: Conversation) -> Conversation:
    """A request in two segments, its answer, and two requests in one segment."""
    first = BINARY2.encode(b"0100 one")
    return (
        conversation.open()
        .to_switch(first[:5])
        .to_switch(first[5:])
        .from_switch(BINARY2.encode(b"0110 one"))
        .to_switch(BINARY2.encode(b"0100 two") + BINARY2.encode(b"0100 three"))
        .close()
    )


SHOP = [
    (True, b"0100 one"),
    (False, b"0110 one"),
    (True, b"0100 two"),
    (True, b"0100 three"),
]


@pytest.mark.parametrize("write", [pcap, pcapng])
@pytest.mark.parametrize(
    "ends",
    [
        {},
        {"vlan": 7},
        {"addresses": ("fd00::1", "fd00::2")},
        {"sequences": ((1 << 32) - 4, (1 << 32) - 2)},
    ],
    ids=["ipv4", "vlan", "ipv6", "numbers that begin again"],
)
def test_both_directions_of_a_connection_are_put_together(write, ends):
    frames = read(write(shop(Conversation(**ends)).packets))
    assert [(frame.to_switch, frame.body) for frame in frames] == SHOP
    assert frames[0].place == "packet 4"
    assert frames[0].time_s == pytest.approx(1_700_000_000.003, abs=1e-4)
    assert frames[0].connection == 0


@pytest.mark.parametrize(
    ("link_type", "strip"),
    [(101, True), (12, True), (113, "sll"), (0, "null")],
    ids=["raw", "raw of Linux", "cooked", "loopback"],
)
def test_other_link_types_are_read(link_type, strip):
    before = {"sll": bytes(14) + b"\x08\x00", "null": (2).to_bytes(4, "little")}
    packets = [
        (at, before.get(strip, b"") + data[14:])
        for at, data in shop(Conversation()).packets
    ]
    frames = read(pcap(packets, link_type))
    assert [(frame.to_switch, frame.body) for frame in frames] == SHOP


def test_a_link_type_that_is_not_known_is_told():
    with pytest.raises(CaptureError, match="got link type 127"):
        read(pcap(shop(Conversation()).packets, 127))


def test_connections_are_counted_as_they_appear():
    one, two = Conversation(40_001), Conversation(40_002, at=1_700_000_001)
    packets = sorted(shop(one).packets + shop(two).packets)
    frames = read(pcap(packets))
    assert [frame.connection for frame in frames] == [0] * 4 + [1] * 4


def test_a_port_used_again_is_another_connection():
    first = Conversation(at=1_700_000_000)
    second = Conversation(at=1_700_000_100, sequences=(900_000, 700_000))
    frames = read(pcap(shop(first).packets + shop(second).packets))
    assert [frame.connection for frame in frames] == [0] * 4 + [1] * 4


def test_a_syn_that_comes_late_is_still_of_its_connection():
    syn, syn_ack, *rest = shop(Conversation()).packets
    frames = read(pcap([syn_ack, rest[0], syn, *rest[1:]]))
    assert [(frame.to_switch, frame.body) for frame in frames] == SHOP
    assert {frame.connection for frame in frames} == {0}


def test_the_switch_is_who_listens_or_has_the_port_or_dials():
    # the scheme listens on a high port, the switch dials from a low one
    talk = Conversation(1024, switch_port=60_000).open()
    data = pcap(talk.to_switch(b"\0\1a").from_switch(b"\0\1b").packets)
    headless = pcap(talk.packets[2:])
    for given, options, direction in (
        (data, {}, [True, False]),
        (data, {"port": 60_000}, [True, False]),
        (data, {"port": 1024}, [False, True]),
        (data, {"switch_dials": True}, [False, True]),
        (data, {"port": 60_000, "switch_dials": True}, [False, True]),
        (headless, {}, [False, True]),
        (headless, {"port": 60_000}, [True, False]),
    ):
        assert [frame.to_switch for frame in read(given, **options)] == direction
    assert read(data, port=99) == []


def test_a_listener_seen_once_is_known_for_connections_whose_beginning_is_missing():
    begun = Conversation(1025, switch_port=60_000).open()
    headless = Conversation(1026, switch_port=60_000, at=begun.at)
    headless.to_switch(b"\0\1a")
    frames = read(pcap(begun.packets + headless.packets))
    assert [frame.to_switch for frame in frames] == [True]


def test_what_is_sent_again_counts_once():
    packets = shop(Conversation()).packets
    frames = read(pcap([packet for packet in packets for _ in range(2)]))
    assert [(frame.to_switch, frame.body) for frame in frames] == SHOP


def test_behind_missing_bytes_the_next_frame_is_found():
    talk = Conversation().open()
    talk.to_switch(BINARY2.encode(b"0100 one")[:4]).lose(0, 6)
    talk.to_switch(BINARY2.encode(b"0100 two")).to_switch(BINARY2.encode(b"0100 three"))
    capture = capture_of(pcap(talk.packets))
    found = [frame.body for frame in capture.frames(BINARY2)]
    assert found == [b"0100 two", b"0100 three"]
    assert capture.notes["bytes of frames that are not whole, left out"] == 4


def test_a_hole_is_waited_for_only_so_long():
    """The other frames do not come at the end of the capture, but a moment later."""
    talk = Conversation(step=1.0).open()
    frame = BINARY2.encode(b"0100 one")
    talk.to_switch(frame).lose(0, 6)
    for _ in range(20):
        talk.to_switch(frame)
    capture = capture_of(pcap(talk.packets))
    frames = capture.frames(BINARY2)
    assert next(frames).place == "packet 3"
    after_hole = next(frames)
    assert after_hole.place == "packet 4"
    assert capture.position < capture.size / 2
    assert len(list(frames)) == 19


def test_a_capture_that_begins_within_a_frame_finds_the_next():
    talk = Conversation()
    talk.to_switch(b"\xf1\xf2 the end of a frame").to_switch(BINARY2.encode(b"0100"))
    capture = capture_of(pcap(talk.packets))
    assert [frame.body for frame in capture.frames(BINARY2)] == [b"0100"]
    assert capture.notes["bytes that are no frames, left out"] == 21


def test_after_what_looked_like_a_frame_the_next_is_found():
    talk = Conversation()
    # a length that reaches into the frame behind it
    talk.to_switch(b"\x00\x06end").to_switch(BINARY2.encode(b"0100"))
    talk.to_switch(b"\xff\xff").to_switch(BINARY2.encode(b"0200"))
    assert bodies(pcap(talk.packets))[-1] == b"0200"


def test_other_packets_and_fragments_are_left_out_and_counted():
    udp = dpkt.ethernet.Ethernet(
        data=dpkt.ip.IP(p=17, data=dpkt.udp.UDP(data=b"x")), type=0x800
    )
    fragment = dpkt.ip.IP(p=6, data=b"x" * 20)
    fragment.mf = 1
    packets = [
        (1.0, b""),
        (1.0, bytes(udp)),
        (1.0, bytes(12) + b"\x08\x06" + bytes(28)),
        (1.0, bytes(12) + b"\x08\x00" + bytes(fragment)),
        *shop(Conversation()).packets,
    ]
    capture = capture_of(pcap(packets))
    assert len(list(capture.frames(BINARY2))) == len(SHOP)
    assert capture.notes["packets without TCP, left out"] == 3
    assert capture.notes["IP fragments, left out"] == 1


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_capture_cut_off_anywhere_gives_what_is_whole(write):
    data = write(shop(Conversation()).packets)
    whole = bodies(data)
    # behind the headers of file, section and interface
    for size in range(80, len(data)):
        found = bodies(data[:size])
        assert found == whole[: len(found)]
    assert found == whole


def test_damage_is_told_and_reads_no_gigabytes():
    data = bytearray(pcap(shop(Conversation()).packets))
    data[24 + 8 : 24 + 12] = b"\xff\xff\xff\x7f"
    with pytest.raises(CaptureError, match=r"x: behind packet 0: .* at most 266240"):
        read(bytes(data))


def test_no_card_number_is_in_the_text_of_a_chunk_or_frame():
    data = pcap(Conversation().to_switch(BINARY2.encode(PAN.encode())).packets)
    capture = capture_of(data)
    (chunk,) = capture.chunks()
    (frame,) = capture.frames(BINARY2)
    assert PAN.encode() == frame.body
    assert PAN not in f"{chunk!r}{frame!r}"
    assert "packet 1" in f"{chunk!r}"


def test_only_the_switches_port_is_read_when_given():
    other = Conversation(port=50_000, switch_port=80).open().to_switch(b"GET / HTTP")
    packets = other.packets + shop(Conversation()).packets
    capture = capture_of(pcap(packets), port=SWITCH_PORT)
    frames = list(capture.frames(BINARY2))
    assert [(frame.to_switch, frame.body) for frame in frames] == SHOP
    assert not capture.notes


# -- logs of jPOS

LOG = f"""\
<?xml version="1.0"?>
17:59:29 something else & not XML
<log realm="channel/10.0.0.1:4321" at="Mon Nov 24 00:00:03 EST 2014.292" lifespan="5ms">
  <receive>
    <isomsg direction="incoming">
      <!-- org.jpos.iso.packager.XMLPackager -->
      <field id="0" value="0100"/>
      <field id="2" value="{PAN}"/>
      <field id="4" value="1500"/>
      <field id="7" value="1124000003"/>
      <field id="11" value="28"/>
      <field id="41" value="T1"/>
      <field id="48"><![CDATA[a <b> c]]></field>
      <field id="52" value="[WIPED]"/>
      <isomsg id="60">
        <field id="1" value="x"/>
      </isomsg>
    </isomsg>
  </receive>
</log>
<log realm="channel/10.0.0.1:4321" at="2014-11-24T00:00:03.300" lifespan="5ms">
  <send>
    <isomsg>
      <field id="0" value="0110"/><field id="11" value="28"/><field id="39" value="00"/>
    </isomsg>
  </send>
</log>
<log realm="channel/10.0.0.2:4321" at="x"><receive><isomsg direction="incoming">\
<field id="0" value="0800"/><field id="11" value="29"/></isomsg></receive></log>
<log><receive><isomsg><field id="0" value="0100"/><broken</isomsg></receive></log>
<log><receive><isomsg><field id="0" value="0100"/>
"""


def test_messages_of_a_jpos_log_are_encoded():
    capture = capture_of(LOG.encode(), codec=CODEC)
    frames = list(capture.frames(BINARY2))
    messages = [CODEC.decode(frame.body).to_dict() for frame in frames]
    assert messages == [
        {
            "mti": "0100",
            2: PAN,
            4: f"{1500:012}",
            7: "1124000003",
            11: "000028",
            41: f"{'T1':8}",
            48: "a <b> c",
        },
        {"mti": "0110", 11: "000028", 39: "00"},
        {"mti": "0800", 11: "000029"},
    ]
    assert [frame.to_switch for frame in frames] == [True, False, True]
    assert [frame.connection for frame in frames] == [0, 0, 1]
    assert frames[0].place == "line 5"
    assert frames[0].time_s is not None
    assert frames[1].time_s is not None
    assert frames[1].time_s - frames[0].time_s == pytest.approx(0.008, abs=1e-5)
    assert frames[2].time_s is None
    assert dict(capture.notes) == {
        "fields that the log does not show in clear, left out": 1,
        "fields that the log shows in parts, left out": 1,
        "messages of the log that cannot be read, left out": 2,
    }


def test_a_log_of_the_other_side_is_turned_round():
    log = LOG.replace("0100", "0111").replace("0110", "0200").replace("0111", "0110")
    frames = read(log.encode(), codec=CODEC)
    assert [frame.to_switch for frame in frames] == [False, True, False]


def test_a_log_of_sign_ons_alone_does_not_tell_the_side():
    log = '<isomsg direction="incoming"><field id="0" value="0800"/></isomsg>'
    assert [frame.to_switch for frame in read(log.encode(), codec=CODEC)] == [None]


def test_what_the_specification_cannot_encode_is_left_out_and_said():
    log = LOG.replace('id="39" value="00"', 'id="39" value="000"')
    capture = capture_of(log.encode(), codec=CODEC)
    assert len(list(capture.frames(None))) == 2
    assert "messages left out: field 39: expected 2 characters, got 3" in capture.notes


def test_a_log_needs_a_specification_and_expands_no_entities():
    with pytest.raises(CaptureError, match="x: expected a specification"):
        read(LOG.encode())
    bomb = '<isomsg><!DOCTYPE x [<!ENTITY a "b">]><field id="0" value="&a;"/></isomsg>'
    capture = capture_of(bomb.encode(), codec=CODEC)
    assert list(capture.frames(None)) == []
    assert capture.notes["messages of the log that cannot be read, left out"] == 1


def test_a_logged_message_that_does_not_end_is_not_kept():
    endless = b'<isomsg><field id="0" value="0100"/>\n' + b"<field/>\n" * 150_000
    whole = b'<isomsg><field id="0" value="0800"/></isomsg>\n'
    capture = capture_of(endless + whole, codec=CODEC)
    assert len(list(capture.frames(None))) == 1
    assert capture.notes["messages of the log that cannot be read, left out"] == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Mon Nov 24 00:00:03 EST 2014.292", 1416787203.292),
        ("Tue Dec 15 17:59:30 CST 2015.9", 1450202370.009),
        ("2022-09-25T12:16:04.787", 1664108164.787),
        ("yesterday", None),
        ("Mon Foo 24 00:00:03 EST 2014.292", None),
    ],
)
def test_times_of_jpos(text, seconds):
    assert parse_time(text) == (None if seconds is None else pytest.approx(seconds))
