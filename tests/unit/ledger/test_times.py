"""Field 7 has no year: the full time is found from when the message came."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.ledger.times import transmitted_at

DAY = timedelta(days=1)


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("field_7", "now", "expected"),
    [
        ("1124160000", "2026-11-24T16:00:01", "2026-11-24T16:00:00"),
        # around midnight
        ("1124235959", "2026-11-25T00:00:01", "2026-11-24T23:59:59"),
        ("1125000001", "2026-11-24T23:59:59", "2026-11-25T00:00:01"),
        # around new year, either clock ahead
        ("1231235959", "2027-01-01T00:00:00", "2026-12-31T23:59:59"),
        ("0101000000", "2026-12-31T23:59:58", "2027-01-01T00:00:00"),
        # an advice that waited since last year
        ("1220100000", "2027-01-03T09:00:00", "2026-12-20T10:00:00"),
        ("0301000000", "2027-02-20T00:00:00", "2026-03-01T00:00:00"),
        # local time in place of UTC: 14 hours ahead, 12 behind
        ("0101130000", "2026-12-31T23:00:00", "2027-01-01T13:00:00"),
        ("1231120000", "2027-01-01T00:00:00", "2026-12-31T12:00:00"),
        # a day ahead is the most; what is beyond was a year ago
        ("1125120000", "2026-11-24T12:00:00", "2026-11-25T12:00:00"),
        ("1125120001", "2026-11-24T12:00:00", "2025-11-25T12:00:01"),
        # 29 February
        ("0229120000", "2028-02-29T12:00:01", "2028-02-29T12:00:00"),
        ("0229235959", "2028-03-01T00:00:01", "2028-02-29T23:59:59"),
        ("0229000000", "2028-02-28T23:59:59", "2028-02-29T00:00:00"),
        ("0229120000", "2027-03-01T00:00:00", "2024-02-29T12:00:00"),
        ("0229120000", "2104-02-28T11:59:59", "2096-02-29T12:00:00"),
        ("0228120000", "2027-03-01T00:00:00", "2027-02-28T12:00:00"),
    ],
)
def test_the_year_is_found_from_when_it_came(field_7, now, expected):
    assert transmitted_at(field_7, ms(at(now))) == ms(at(expected))


@pytest.mark.parametrize(
    "field_7",
    [
        *("1332000000", "0001000000", "0100000000", "0132000000", "0431000000"),
        *("0230000000", "1124240000", "1124006000", "1124000060"),
        *("", "112416000", "11241600000", "11241600 0", "١١٢٤١٦٠٠٠٠"),
    ],
)
def test_what_is_no_date_and_time_has_none(field_7):
    assert transmitted_at(field_7, ms(at("2026-11-24T16:00:00"))) is None


moments = st.integers(ms(at("1999-01-01")), ms(at("2399-12-31"))).map(
    lambda at_ms: datetime.fromtimestamp(at_ms // 1000, UTC)
)


@given(sent=moments, took=st.timedeltas(-DAY, 364 * DAY))
def test_what_was_sent_within_a_year_is_read_as_it_was_sent(sent, took):
    now = int((sent + took).timestamp() * 1000)
    assert transmitted_at(sent.strftime("%m%d%H%M%S"), now) == ms(sent)


@given(
    field_7=st.text("0123456789", min_size=10, max_size=10),
    now=st.integers(0, ms(at("2399-01-01T00:00:00"))),
)
def test_whatever_comes_is_never_more_than_a_day_ahead(field_7, now):
    found = transmitted_at(field_7, now)
    assert found is None or found <= now + 86_400_000
