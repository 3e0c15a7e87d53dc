from typing import TYPE_CHECKING

import pytest

from switch.publish.events import Event, Position
from switch.publish.memory import MemoryPublisher
from switch.publish.port import PublishError
from tests.unit.publish.test_jsonlines import events

if TYPE_CHECKING:
    from switch.publish.port import Publisher


def test_it_takes_in_order_and_knows_where_it_is():
    publisher: Publisher = MemoryPublisher()
    assert publisher.position == Position()
    publisher.publish(events(1, 3))
    assert publisher.position == Position(2, 3, 3)


def test_a_fault_on_cue_comes_once_and_in_the_middle():
    kept: list[Event] = []
    publisher = MemoryPublisher(kept)
    publisher.fails_after = 2
    with pytest.raises(PublishError, match="expected to publish 3 events, got 2"):
        publisher.publish(events(1, 3))
    publisher.close()
    assert publisher.is_closed
    again = MemoryPublisher(kept)
    assert again.position == Position(1, 3, 2)
    again.publish(events(3, 3))
    assert kept == events(1, 3)
