"""What can go wrong with traffic.

TrafficError
├── CardFileError     the card file cannot be used (says which line)
├── CaptureError      the capture file cannot be used (says which line)
├── RequestError      the specification cannot carry our request
├── ScenarioError     the scenario file cannot be used
└── SessionError      the switch could not be reached, or refused the sign-on
"""


class TrafficError(Exception):
    """Base of what this package raises."""


class CardFileError(TrafficError):
    """A card file that isn't `pan,account,expiry,status`."""


class CaptureError(TrafficError):
    """A capture that isn't hex, or whose frames the framing cannot cut."""


class RequestError(TrafficError):
    """A specification that cannot encode, or does not show, what we send."""


class ScenarioError(TrafficError):
    """A scenario that isn't TOML, or has something that none has."""


class SessionError(TrafficError):
    """No connection, or no sign-on."""
