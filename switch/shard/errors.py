"""What shards raise."""


class Elsewhere(LookupError):  # noqa: N818 -- what is so, not what is wrong
    """The shard, or that of the card, is none of this process: another node has it."""
