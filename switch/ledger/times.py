"""Field 7 (MMDDhhmmss, UTC) says no year: which moment it was, seen from now.

Rule: a message was sent before it came, but for clocks that differ and peers that send
their local time as if it were UTC. So it is the last moment of that date and time that
is no more than a day from now; a year later it would be read as of another year.

Fields 12 and 13 are the terminal's own clock, in a time zone that no field names. They
are not looked at.
"""

import calendar

MS_PER_S = 1000
MS_PER_DAY = 86_400 * MS_PER_S
# Time zones reach 14 hours ahead of UTC; the rest is for clocks that are wrong.
AHEAD_MS_MAX = MS_PER_DAY
# From one 29 February to the next, at most.
YEARS_LOOKED_AT = 9

_MS_PER_YEAR = 365.2425 * MS_PER_DAY


def transmitted_at(field_7: str, now_ms: int) -> int | None:
    """Milliseconds since 1970, or None for what is no date and time at all.

    `now_ms` is when the message came, in the same unit.
    """
    if len(field_7) != 10 or not (field_7.isascii() and field_7.isdigit()):
        return None
    month, day, hour, minute, second = (
        int(field_7[at : at + 2]) for at in range(0, 10, 2)
    )
    if not 1 <= month <= 12 or day < 1 or hour > 23 or minute > 59 or second > 59:
        return None
    newest = 1970 + int((now_ms + AHEAD_MS_MAX) / _MS_PER_YEAR) + 1
    for year in range(newest, newest - YEARS_LOOKED_AT - 1, -1):
        if day > calendar.monthrange(year, month)[1]:
            continue
        moment = year, month, day, hour, minute, second
        at_ms = calendar.timegm(moment) * MS_PER_S
        if at_ms <= now_ms + AHEAD_MS_MAX:
            return at_ms
    return None
