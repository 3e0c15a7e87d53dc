import json
import subprocess
import sys

from tests.unit.iso8583 import hostile_memory
from tests.unit.iso8583.hostile_memory import METER, METER_BYTES

GROWTH_KIB_MAX = 2048


def test_a_hostile_message_of_64_kib_takes_little_memory():
    done = subprocess.run(
        [sys.executable, "-m", hostile_memory.__name__],
        capture_output=True,
        check=True,
    )
    grown = dict(map(json.loads, done.stdout.splitlines()))
    assert grown.pop(METER) >= METER_BYTES // 1024 // 2
    assert len(grown) > 10
    assert {name: kib for name, kib in grown.items() if kib > GROWTH_KIB_MAX} == {}
