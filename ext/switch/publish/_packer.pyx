# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Entries of the journal into the record batches of their partitions.

Rule 1: the records of a partition are in the order in which their entries were added.
Rule 2: a key is in the partition that Kafka's own clients have it in by default.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from switch.ledger._entry cimport (
    HELD, WITHDRAWN, Entry, EntryHeader, Transaction, unpack_entry,
)
from switch.publish._event_json cimport (
    EVENT_JSON_SIZE_MAX, ID_OFFSET, EventJson, write_event,
)
from switch.publish._record_batch cimport RecordBatch

cdef enum:
    TOPICS_MAX = 16
    MURMUR_SEED = 0x9747B28C
    MURMUR_FACTOR = 0x5BD1E995


cdef uint32_t _murmur2(const uint8_t* data, Py_ssize_t size) noexcept:
    cdef uint32_t mixed = <uint32_t> MURMUR_SEED ^ <uint32_t> size
    cdef uint32_t word
    while size >= 4:
        memcpy(&word, data, 4)
        word *= <uint32_t> MURMUR_FACTOR
        word ^= word >> 24
        word *= <uint32_t> MURMUR_FACTOR
        mixed = mixed * <uint32_t> MURMUR_FACTOR ^ word
        data += 4
        size -= 4
    if size == 3:
        mixed ^= <uint32_t> data[2] << 16
    if size >= 2:
        mixed ^= <uint32_t> data[1] << 8
    if size >= 1:
        mixed ^= data[0]
        mixed *= <uint32_t> MURMUR_FACTOR
    mixed ^= mixed >> 13
    mixed *= <uint32_t> MURMUR_FACTOR
    return mixed ^ mixed >> 15


def partition_of(bytes key not None, int partitions):
    """As Kafka's clients have it by default."""
    return _partition_of(<const uint8_t*> <const char*> key, len(key), partitions)


cdef inline int _partition_of(
    const uint8_t* key, Py_ssize_t size, int partitions
) noexcept:
    return <int> ((_murmur2(key, size) & 0x7FFFFFFF) % <uint32_t> partitions)


cdef class Packer:
    """`partitions` are how many of these the topics have. `topics` says for a kind, by
    its number, which topic has it when the balance stays as it is, and which one when
    it does not: the events of transactions are written as JSON then. All others are
    `write`'s to say: topic, key (None: no account), value and id of an entry, its shard
    and its commit.

    A partition is known by its lane: those of the first topic, then of the next.
    """

    cdef list batches       # by lane; the last one of each is being filled
    cdef int partitions[TOPICS_MAX]
    cdef int first_lanes[TOPICS_MAX]
    cdef int topics[WITHDRAWN + 1][2]
    cdef object write
    cdef Py_ssize_t batch_size_max
    cdef uint8_t json[EVENT_JSON_SIZE_MAX]

    def __init__(self, partitions, topics, write, Py_ssize_t batch_size_max):
        cdef int lanes = 0
        assert len(partitions) <= TOPICS_MAX
        for topic, count in enumerate(partitions):
            assert count > 0
            self.partitions[<int> topic] = count
            self.first_lanes[<int> topic] = lanes
            lanes += <int> count
        for kind in range(WITHDRAWN + 1):
            still, moved = topics.get(kind, (-1, -1)) if kind >= HELD else (-1, -1)
            self.topics[<int> kind][0] = still
            self.topics[<int> kind][1] = moved
        self.batches = [[] for _ in range(lanes)]
        self.write = write
        self.batch_size_max = batch_size_max

    def add(
        self, bytes payload not None, uint64_t first_sequence, int shard,
        uint64_t commit,
    ):
        """The entries of a shard record. Raises EntryError."""
        cdef const uint8_t* data = <const uint8_t*> <const char*> payload
        cdef Py_ssize_t offset = 0
        cdef Py_ssize_t size = len(payload)
        cdef uint64_t sequence = first_sequence
        cdef EntryHeader header
        cdef Entry entry
        while offset < size:
            entry = unpack_entry(data + offset, size - offset, sequence)
            if entry.kind <= WITHDRAWN and self.topics[entry.kind][0] >= 0:
                self.add_transaction(<Transaction> entry, shard, commit)
            else:
                self.add_other(entry, shard, commit)
            memcpy(&header, data + offset, sizeof(EntryHeader))
            offset += header.size
            sequence += 1

    cdef int add_transaction(
        self, Transaction entry, int shard, uint64_t commit
    ) except -1:
        cdef EventJson event = write_event(entry, shard, commit, self.json)
        cdef int topic = self.topics[entry.kind][entry.body.balance_change != 0]
        cdef const uint8_t* event_id = self.json + ID_OFFSET
        cdef const uint8_t* key = event_id
        cdef Py_ssize_t key_size = event.id_size
        if entry.body.name_size:
            key = entry.text
            key_size = entry.body.name_size
        self.put(
            topic, _partition_of(key, key_size, self.partitions[topic]), key,
            key_size if entry.body.name_size else -1, self.json, event.size, event_id,
            event.id_size,
        )
        return 0

    cdef int add_other(self, Entry entry, int shard, uint64_t commit) except -1:
        cdef int topic
        cdef bytes key, value, event_id, known_by
        topic, key, value, event_id = self.write(entry, shard, commit)
        known_by = event_id if key is None else key
        self.put(
            topic,
            _partition_of(
                <const uint8_t*> <const char*> known_by, len(known_by),
                self.partitions[topic],
            ),
            <const uint8_t*> <const char*> known_by, -1 if key is None else len(key),
            <const uint8_t*> <const char*> value, len(value),
            <const uint8_t*> <const char*> event_id, len(event_id),
        )
        return 0

    cdef int put(
        self, int topic, int partition, const uint8_t* key, Py_ssize_t key_size,
        const uint8_t* value, Py_ssize_t value_size, const uint8_t* event_id,
        Py_ssize_t event_id_size,
    ) except -1:
        cdef list batches = self.batches[self.first_lanes[topic] + partition]
        cdef RecordBatch batch
        if batches:
            batch = batches[len(batches) - 1]
            if batch.put(key, key_size, value, value_size, event_id, event_id_size):
                return 0
        batch = RecordBatch(self.batch_size_max)
        batches.append(batch)
        batch.put(key, key_size, value, value_size, event_id, event_id_size)
        return 0

    def take(self):
        """What was added since the last time: lanes, and the batches of each."""
        taken = [(lane, found) for lane, found in enumerate(self.batches) if found]
        for lane, _ in taken:
            self.batches[lane] = []
        return taken
