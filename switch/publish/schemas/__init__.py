"""The JSON Schema of each topic's values: files beside this one, for consumers.

Rule 1: they follow from `Event` and `Push`, and from which kinds a topic has; `python
        -m switch.publish.schemas` writes them anew, and a test compares.
Rule 2: a value in MessagePack is the same map, and is described by the same schema.
Rule 3: fields are only ever added, so consumers pass over what they do not know; a
        change that is none of that has another VERSION.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from switch.publish.events import Event
from switch.publish.push import KINDS, Push
from switch.publish.topics import POSTINGS, TOPIC_OF_KIND, TOPICS

VERSION: Final = 1
# Whatever the topic in NSQ is called.
PUSHES: Final = "push-notifications"
DIRECTORY: Final = Path(__file__).parent
# What a reversal or a withdrawal takes back may be a posting.
_ALSO_IN_POSTINGS: Final = ("reversed", "withdrawn")


def path_of(topic: str) -> Path:
    return DIRECTORY / f"{topic}.json"


def kinds_of(topic: str) -> list[str]:
    if topic == PUSHES:
        return list(KINDS)
    kinds = [kind for kind, where in TOPIC_OF_KIND.items() if where == topic]
    return [*kinds, *_ALSO_IN_POSTINGS] if topic == POSTINGS else kinds


def schema_of(topic: str) -> dict[str, Any]:
    kind = Push if topic == PUSHES else Event
    _, definitions = msgspec.json.schema_components([kind])
    definition = definitions[kind.__name__]
    properties: dict[str, Any] = definition["properties"]
    properties["id"]["pattern"] = "^[0-9]+-[1-9][0-9]*$"
    properties["kind"] = {"enum": kinds_of(topic)}
    properties["at"]["format"] = "date-time"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:cardswitch:events:{topic}:{VERSION}",
        "title": f"An event of the topic {topic}",
        "type": "object",
        "required": definition["required"],
        "properties": properties,
        "additionalProperties": True,
    }


def text_of(topic: str) -> bytes:
    return msgspec.json.format(msgspec.json.encode(schema_of(topic)), indent=2) + b"\n"


def write_all() -> None:
    for topic in (*TOPICS, PUSHES):
        path_of(topic).write_bytes(text_of(topic))
