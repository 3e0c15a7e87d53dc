"""Values of the store to etcd's messages, and back.

Keys are text here, and bytes there.
"""

from __future__ import annotations

from typing import Any, assert_never

from switch.ownership.etcd.protocol import etcd_pb2 as pb
from switch.ownership.etcd.store import (
    Change,
    Delete,
    Get,
    IsAt,
    KeyValue,
    Listing,
    Oldest,
    Operation,
    Outcome,
    Put,
)


def range_end(prefix: str) -> bytes:
    """The first key behind all that begin so. UTF-8 has no byte 0xff."""
    assert prefix, "expected a prefix, got an empty one"
    data = prefix.encode()
    return data[:-1] + bytes([data[-1] + 1])


def prefix_request(prefix: str) -> Any:
    return pb.RangeRequest(key=prefix.encode(), range_end=range_end(prefix))


def watch_request(prefix: str) -> Any:
    """From now on. From a revision that is still to come, which is what comes behind a
    listing, etcd would not tell how far it is."""
    create = pb.WatchCreateRequest(key=prefix.encode(), range_end=range_end(prefix))
    return pb.WatchRequest(create_request=create)


def transaction_request(
    condition: IsAt, then: tuple[Operation, ...], otherwise: tuple[Operation, ...]
) -> Any:
    compare = pb.Compare(
        result=pb.Compare.EQUAL,
        target=pb.Compare.CREATE,
        key=condition.key.encode(),
        create_revision=condition.create_revision,
    )
    return pb.TxnRequest(
        compare=[compare],
        success=[_operation(each) for each in then],
        failure=[_operation(each) for each in otherwise],
    )


def _operation(operation: Operation) -> Any:
    match operation:
        case Put(key, value, lease):
            put = pb.PutRequest(key=key.encode(), value=value, lease=lease)
            return pb.RequestOp(request_put=put)
        case Delete(key):
            delete = pb.DeleteRangeRequest(key=key.encode())
            return pb.RequestOp(request_delete_range=delete)
        case Get(key):
            get = pb.RangeRequest(key=key.encode())
            return pb.RequestOp(request_range=get)
        case Oldest(prefix):
            oldest = pb.RangeRequest(
                key=prefix.encode(),
                range_end=range_end(prefix),
                limit=1,
                sort_order=pb.RangeRequest.ASCEND,
                sort_target=pb.RangeRequest.CREATE,
            )
            return pb.RequestOp(request_range=oldest)
        case _:
            assert_never(operation)


def listing_of(answer: Any) -> Listing:
    assert not answer.more
    items = tuple(_key_value(each) for each in answer.kvs)
    return Listing(answer.header.revision, items)


def outcome_of(answer: Any) -> Outcome:
    found: list[KeyValue | None] = []
    for response in answer.responses:
        if response.WhichOneof("response") == "response_range":
            kvs = response.response_range.kvs
            found.append(_key_value(kvs[0]) if kvs else None)
    return Outcome(answer.succeeded, answer.header.revision, tuple(found))


def changes_of(answer: Any) -> tuple[Change, ...]:
    return tuple(_change(event) for event in answer.events)


def _change(event: Any) -> Change:
    is_put = event.type == pb.Event.PUT
    return Change(
        key=event.kv.key.decode("utf-8", "replace"),
        revision=event.kv.mod_revision,
        after=_key_value(event.kv) if is_put else None,
    )


def _key_value(message: Any) -> KeyValue:
    return KeyValue(
        key=message.key.decode("utf-8", "replace"),
        value=message.value,
        create_revision=message.create_revision,
        mod_revision=message.mod_revision,
        lease=message.lease,
    )
