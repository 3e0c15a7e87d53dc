"""What consumers are told of the topics is what is sent."""

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from switch.ledger import KIND_NAMES
from switch.publish.events import Event, events_of
from switch.publish.kafka import format_of
from switch.publish.schemas import PUSHES, kinds_of, path_of, text_of
from switch.publish.topics import TOPIC_OF_KIND, TOPICS, topic_of
from tests.unit.small_bank import full_journal

each_topic = pytest.mark.parametrize("topic", TOPICS)


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> list[Event]:
    """At least one of every kind."""
    _, journal = full_journal(tmp_path_factory.mktemp("journal"))
    found = [event for commit in journal.read(0) for event in events_of(commit)]
    journal.close()
    return found


@pytest.mark.parametrize("topic", [*TOPICS, PUSHES])
def test_the_file_is_what_follows_from_an_event(topic):
    assert path_of(topic).read_bytes() == text_of(topic), (
        "python -m switch.publish.schemas"
    )


def test_every_kind_has_its_topic(events):
    assert set(TOPIC_OF_KIND) == set(KIND_NAMES.values())
    assert {event.kind for event in events} == set(TOPIC_OF_KIND)
    for event in events:
        assert event.kind in kinds_of(topic_of(event))


def test_whatever_moves_a_balance_is_in_postings(events):
    assert {topic_of(event) for event in events if event.balance_change} == {"postings"}
    for event in events:
        if event.kind in ("reversed", "withdrawn") and not event.balance_change:
            assert topic_of(event) == "authorisations"


@each_topic
@pytest.mark.parametrize("value_format", ["json", "msgpack"])
def test_what_is_sent_is_what_the_schema_says(topic, value_format, events):
    validator = jsonschema_rs.validator_for(json.loads(path_of(topic).read_bytes()))
    encode = format_of(value_format).encode

    def value_of(event: Event) -> dict[str, Any]:
        """As a consumer gets it."""
        codec = msgspec.json if value_format == "json" else msgspec.msgpack
        value: dict[str, Any] = codec.decode(encode(event))
        return value

    mine = [event for event in events if topic_of(event) == topic]
    assert mine
    for event in mine:
        value = value_of(event)
        validator.validate(value)
        validator.validate({**value, "added_later": 1})
        for name in ("id", "kind", "account", "at", "commit"):
            without = {k: v for k, v in value.items() if k != name}
            assert not validator.is_valid(without)
    others = [event for event in events if topic_of(event) != topic]
    strangers = {event.kind for event in others} - set(kinds_of(topic))
    for event in others:
        if event.kind in strangers:
            assert not validator.is_valid(value_of(event))
