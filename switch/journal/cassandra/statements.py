"""What is said to Cassandra, by name. Timestamps are given, or those of Paxos: never a
clock's."""

# Of write-once rows, and of the tombstone that covers them.
WRITTEN, DROPPED = 1, 2

PLAIN = {
    "insert_part": (
        "INSERT INTO log (session, segment, number, part, parts, data) "
        f"VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP {WRITTEN}"
    ),
    "read_parts": (
        "SELECT number, part, parts, data FROM log "
        "WHERE session = ? AND segment = ? AND number > ? LIMIT ?"
    ),
    "drop_segment": (
        f"DELETE FROM log USING TIMESTAMP {DROPPED} WHERE session = ? AND segment = ?"
    ),
    "write_fence": (
        "INSERT INTO fences (session, fenced_by) VALUES (?, ?) "
        f"USING TIMESTAMP {WRITTEN}"
    ),
    "read_fence": "SELECT fenced_by FROM fences WHERE session = ? LIMIT 1",
    "write_mark": (
        "INSERT INTO marks (session, kind, position) VALUES (?, ?, ?) USING TIMESTAMP ?"
    ),
    "read_mark": "SELECT position FROM marks WHERE session = ? AND kind = ?",
    "write_chunk": (
        "INSERT INTO chunks (shard, name, piece, data) VALUES (?, ?, ?, ?) "
        f"USING TIMESTAMP {WRITTEN}"
    ),
    "read_chunk": "SELECT data FROM chunks WHERE shard = ? AND name = ? AND piece = ?",
    "drop_chunks": (
        f"DELETE FROM chunks USING TIMESTAMP {DROPPED} WHERE shard = ? AND name = ?"
    ),
    "write_checkpoint": (
        "INSERT INTO checkpoints (shard, head) VALUES (?, ?) USING TIMESTAMP ?"
    ),
    "read_checkpoint": "SELECT head FROM checkpoints WHERE shard = ?",
    "write_published": (
        "INSERT INTO published (publisher, shard, position) VALUES (?, ?, ?) "
        "USING TIMESTAMP ?"
    ),
    "read_published": (
        "SELECT position FROM published WHERE publisher = ? AND shard = ?"
    ),
    # All of a table, at a quorum: what is decided with it is looked at again.
    "list_sessions": "SELECT session FROM sessions",
    "list_publishers": "SELECT DISTINCT publisher, shard FROM published",
}

_INSERT_EPOCH = (
    "INSERT INTO epochs (shard, number, session, parent_number, parent_session, "
    "after_segment, after_number) VALUES (?, ?, ?, ?, ?, ?, ?);"
)
_SET_CURRENT = (
    "UPDATE epochs SET current_number = ?, current_session = ? WHERE shard = ? IF "
)
CONDITIONAL = {
    "create_session": (
        "INSERT INTO sessions (session, node) VALUES (?, ?) IF NOT EXISTS"
    ),
    "seal_session": (
        "UPDATE sessions SET sealed_at = ? WHERE session = ? IF sealed_at = null"
    ),
    "open_first": (
        f"BEGIN BATCH {_SET_CURRENT} current_number = null; {_INSERT_EPOCH} APPLY BATCH"
    ),
    "open_next": (
        f"BEGIN BATCH {_SET_CURRENT} current_number = ? AND current_session = ?; "
        f"{_INSERT_EPOCH} APPLY BATCH"
    ),
    "seal_epoch": (
        "UPDATE epochs SET sealed_at = ? WHERE shard = ? AND number = ? "
        "AND session = ? IF sealed_at = null"
    ),
    "write_meta": "INSERT INTO meta (name, value) VALUES (?, ?) IF NOT EXISTS",
    "change_meta": "UPDATE meta SET value = ? WHERE name = ? IF value = ?",
}

# Of what conditional statements decide.
SERIAL = {
    "read_session": "SELECT node, sealed_at FROM sessions WHERE session = ?",
    "read_epochs": (
        "SELECT current_number, current_session, number, session, parent_number, "
        "parent_session, after_segment, after_number, sealed_at FROM epochs "
        "WHERE shard = ?"
    ),
    "read_meta": "SELECT value FROM meta WHERE name = ?",
}
