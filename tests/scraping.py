"""What the switch says at `/metrics`, as Prometheus would read it."""


def values_of(text: str) -> dict[str, float]:
    """By name with labels."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    pairs = (line.rpartition(" ") for line in lines)
    return {name: float(value) for name, _, value in pairs}
