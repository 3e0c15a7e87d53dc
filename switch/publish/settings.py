"""The settings of engines: `[publish.kafka]` and its like. docs/operations.md has them.

An engine is there when the hosts it begins with are given.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from switch.nsq.protocol import NAME_PATTERN

# HOST:PORT, an IPv6 address in brackets.
Host = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]]+):[0-9]{1,5}$")]
Hosts = tuple[Host, ...]
# Of a topic or a channel of NSQ.
NsqName = Annotated[str, Meta(pattern=NAME_PATTERN)]


class KafkaSettings(Struct, frozen=True, forbid_unknown_fields=True):
    # Some of the brokers; they tell the others.
    bootstrap: Hosts = ()
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = (
        "PLAINTEXT"
    )
    # PEM. Empty: the system's authorities; no certificate of our own.
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    user: str = ""
    password_file: str = ""
    topic_prefix: str = ""
    value_format: Literal["json", "msgpack"] = "json"
    create_topics: bool = True
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 12
    # 0: as the brokers have it by default.
    replication: Annotated[int, Meta(ge=0, le=100)] = 0
    retention_h: Annotated[int, Meta(ge=1, le=1_000_000)] = 168
    # How long an acknowledgement may take until the brokers count as gone.
    timeout_ms: Annotated[int, Meta(ge=1000, le=600_000)] = 30_000


class NsqSettings(Struct, frozen=True, forbid_unknown_fields=True):
    nsqd: Hosts = ()
    topic: NsqName = "push-notifications"
    # To so many different nsqd each, if there are as many.
    copies: Annotated[int, Meta(ge=1, le=5)] = 2
    # A push that is older when it is to be sent is stale: see `stale`.
    stale_seconds: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 60
    stale: Literal["send", "mark", "drop"] = "mark"
    # How long an acknowledgement may take until an nsqd counts as gone.
    timeout_ms: Annotated[int, Meta(ge=100, le=600_000)] = 5_000
