# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The one writer: shards admit requests, and one commit carries what they decided.

All shards of a process are committed together. While one commit is being written,
the entries and the replies of everything that arrives gather for the next; when it is
durable, and not before, its replies leave, one write per connection. The batch grows
with the load by itself.

Shards come with `open_shard` and go with `close_shard`. What is for one that is not
here is for whoever has it: `slots` has None there, and none behind the last, so that
a look-up that finds no shard finds None as well.

Rule 1: a reply leaves only after every entry decided before it is durable. That holds
for repeats as well, whose first answer may still be on its way to the disk.
Rule 2: an approval that was not durable by its deadline does not leave. Whoever asked
may have decided without us: what it took goes back, it and its repeats are declined.
"""
import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from switch.ledger._administer cimport check_fits, take_place
from switch.ledger._apply cimport apply
from switch.ledger._decide cimport decide, decide_void, undecided
from switch.ledger._entry cimport ENTRY_SIZE_MAX

from switch.journal.port import ShardRecord
from switch.ledger._decide import decide_expiries, decide_withdrawal
from switch.ledger._entry import decode_entries
from switch.shard.errors import Elsewhere

cdef enum:
    CAPACITY_FIRST = 4096
    CAPACITY_KEPT = 1 << 20     # a buffer that grew beyond gives its memory back
    READ_MS_MAX = 100           # from a read to its first entry; more makes no harm


class OverCapacity(Exception):  # noqa: N818 -- what happened, not what is wrong
    """Too many entries wait for their commit: nothing was written, try again."""


cdef uint8_t* _with_room(
    uint8_t* buffer, Py_ssize_t* capacity, Py_ssize_t needed
) except NULL:
    cdef Py_ssize_t grown = capacity[0] if capacity[0] else CAPACITY_FIRST
    cdef void* moved
    if needed <= capacity[0]:
        return buffer
    while grown < needed:
        grown *= 2
    moved = realloc(buffer, grown)
    if moved == NULL:
        raise MemoryError(f"no memory for {grown} bytes")
    capacity[0] = grown
    return <uint8_t*> moved


cdef class ReplyBuffer:
    """Replies to one connection, in the order decided, held until they may leave.

    The link's connection derives from it: it puts the frame's header before a body
    and delivers the frames of one commit to its transport.
    """

    def __dealloc__(self):
        free(self.frames)
        free(self.approvals)

    cdef uint8_t* open(self, Py_ssize_t capacity) except NULL:
        """Room for the body of one reply; `close` makes it count."""
        self.frames = _with_room(
            self.frames, &self.frames_capacity,
            self.frames_size + self.header_size + capacity,
        )
        return self.frames + self.frames_size + self.header_size

    cdef int close(self, Py_ssize_t body_size) except -1:
        self.write_header(self.frames + self.frames_size, body_size)
        self.last_frame_size = self.header_size + body_size
        self.frames_size += self.last_frame_size
        self.replies += 1
        return 0

    cdef int mark_approval(
        self, int shard, uint64_t sequence, bint repeated
    ) except -1:
        """The reply that was closed last approves by this entry, decided for it or,
        if `repeated`, before."""
        cdef Approval* approval
        self.approvals = <Approval*> _with_room(
            <uint8_t*> self.approvals, &self.approvals_capacity,
            (self.approval_count + 1) * <Py_ssize_t> sizeof(Approval),
        )
        approval = &self.approvals[self.approval_count]
        approval.sequence = sequence
        approval.shard = shard
        approval.due_ms = 0 if repeated else self.read_ms + self.deadline_ms
        approval.size = self.last_frame_size
        approval.offset = self.frames_size - self.last_frame_size
        self.approval_count += 1
        return 0

    cdef int write_header(self, uint8_t* at, Py_ssize_t body_size) except -1:
        return 0

    cdef bytes take(self):
        cdef bytes frames = PyBytes_FromStringAndSize(
            <char*> self.frames, self.frames_size
        )
        self.frames_size = 0
        self.replies = 0
        self.held = False
        if self.frames_capacity > CAPACITY_KEPT:
            free(self.frames)
            self.frames = NULL
            self.frames_capacity = 0
        return frames

    cdef bytes take_approvals(self):
        """Which of the frames approve, and by which entries: packed `Approval`s."""
        cdef bytes approvals = PyBytes_FromStringAndSize(
            <char*> self.approvals, self.approval_count * sizeof(Approval)
        )
        self.approval_count = 0
        return approvals

    cdef int decline(self, bytes frame) except -1:
        """The approval in this frame was withdrawn: the next commit has a decline."""
        return 0

    cpdef deliver(self, bytes frames, int replies):
        raise TypeError("only a link's connection delivers")

    cpdef forgo(self, int replies):
        """So many replies never leave: what they told is not ours to tell any more."""


cdef class Shard:
    """One shard's state and what it has decided since its last commit."""

    def __init__(self, State state not None, CommitGroup group not None):
        self.state = state
        self.group = group

    def __dealloc__(self):
        free(self.pending)

    cdef Decision admit(self, Request request, int64_t now):
        """Decides one request; what it wrote is in the commit being gathered.

        A decision that would be one too many for it is not taken: 91. A repeat writes
        nothing, and gets its answer even then.
        """
        cdef Decision decision = decide(self.state, request, now)
        if decision.entry is None:
            return decision
        if self.group.pending >= self.group.pending_max:
            return undecided(b"91")
        self.write(decision.entry)
        return decision

    cdef Decision make_void(self, Request request, int64_t now):
        """`decide_void`, its entry pending. Without room it is not taken, as above."""
        cdef Decision decision = decide_void(self.state, request, now)
        if decision.entry is None:
            return decision
        if self.group.pending >= self.group.pending_max:
            return undecided(b"91")
        self.write(decision.entry)
        return decision

    @property
    def is_settled(self):
        """Whether everything that it has decided is released."""
        return self.pending_count == 0 and not self.is_in_flight

    cdef int write(self, Entry entry) except -1:
        # Whatever can fail, for want of memory above all, comes before the state is
        # changed: an entry that is not pending must not have been applied.
        cdef Py_ssize_t size
        self.pending = _with_room(
            self.pending, &self.pending_capacity, self.pending_size + ENTRY_SIZE_MAX
        )
        size = entry.pack(self.pending + self.pending_size)
        if self.group.pending == 0:
            self.group._pending_since = self.group._now_ms()
        if self.pending_count == 0:
            self.first_sequence = entry.sequence
            self.group._changed.append(self)
        try:
            apply(self.state, entry)
        except BaseException:
            if self.pending_count == 0:
                self.group._changed.pop()
            raise
        self.pending_size += size
        self.pending_count += 1
        self.group.pending += 1
        return 0

    def decide(self, Request request not None, int64_t now):
        """`admit` for callers in Python: the decision, its entry pending."""
        return self.admit(request, now)

    def end_holds(self, int64_t now):
        """Ends the holds whose time is over; returns how many."""
        cdef Entry entry
        cdef list entries = decide_expiries(self.state, now)
        for entry in entries:
            self.write(entry)
        return len(entries)

    cpdef object take(self):
        """The record of what is pending, for the commit that starts now."""
        cdef object record = ShardRecord(
            shard=self.state.shard,
            first_sequence=self.first_sequence,
            count=self.pending_count,
            payload=PyBytes_FromStringAndSize(<char*> self.pending, self.pending_size),
        )
        self.pending_size = 0
        self.pending_count = 0
        self.is_in_flight = True
        if self.pending_capacity > CAPACITY_KEPT:
            free(self.pending)
            self.pending = NULL
            self.pending_capacity = 0
        return record


cdef class CommitGroup:
    """All shards of this process, and the commits that they share.

    `submit(at, records)` hands a commit to the journal's thread, which calls
    `committed(number)` on the loop when it is durable. `schedule(callback)` runs a
    callback when the loop has read what has arrived. `released(number)` is told just
    before the replies go. `clock()` gives milliseconds since 1970, `monotonic()`
    seconds that never go back, as the links' loop has them. `deadline_ms` is
    how long after its request was read an approval may still leave, on the link that
    is the strictest: what came by another link is looked at then, and may have longer.
    `shard_count` is how many shards there are, when `states` are some of them. With
    `confirms`, what needs no commit is submitted as well, with no records: whether it
    may be told is not ours alone to say.
    """

    def __init__(
        self, states, *, submit, schedule, released, clock,
        uint64_t head=0, uint32_t pending_max=65_536, int64_t deadline_ms=5_000,
        monotonic=time.monotonic, shard_count=None, bint confirms=False,
    ):
        states = list(states)
        count = len(states) if shard_count is None else shard_count
        self.slots = [None] * (count + 1)
        for state in states:
            self.open_shard(state)
        self.head = head
        self.confirms = confirms
        self.pending_max = pending_max
        self.deadline_ms = deadline_ms
        self._submit = submit
        self._schedule = schedule
        self._released = released
        self._clock = clock
        self._monotonic = monotonic
        self._changed = []
        self._holding = []
        self._waiters = []
        self._deliveries = []
        self._waiters_in_flight = []
        self._changed_in_flight = []
        self._records = []
        self._withdrawn = set()
        self._pending_due = self._in_flight_due = INT64_MAX

    @property
    def shards(self):
        """Those that are here, by their numbers."""
        return [shard for shard in self.slots if shard is not None]

    @property
    def shard_count(self):
        """Of all there are, here and elsewhere."""
        return len(self.slots) - 1

    def shard(self, int number):
        """Raises Elsewhere."""
        if not 0 <= number < self.shard_count or self.slots[number] is None:
            raise Elsewhere(f"expected a shard that is here, got shard {number}")
        return self.slots[number]

    def open_shard(self, State state not None):
        """From now on it is decided here what is for this shard."""
        if not 0 <= state.shard < self.shard_count:
            raise ValueError(
                f"expected a shard below {self.shard_count}, got shard {state.shard}"
            )
        if self.slots[state.shard] is not None:
            raise ValueError(f"shard {state.shard} is here already")
        self.slots[state.shard] = Shard(state, self)

    def close_shard(self, int number):
        """Nothing more is decided for it here. What has been goes its way: the shard is
        somebody else's when it `is_settled`. Raises Elsewhere."""
        shard = self.shard(number)
        self.slots[number] = None
        return shard

    def administer(self, list changes not None, int64_t now):
        """Writes what operators change, (shard, entry) each, as one: they are in the
        same commit, or none of them is anywhere.

        An entry may have been made a while ago: it gets its place here. Raises
        ChangeRefused if one does not fit any more, OverCapacity, or what stopped the
        journal.
        """
        cdef Shard shard
        cdef Entry entry
        if self._fault is not None:
            raise self._fault
        if self.pending + <uint64_t> len(changes) > self.pending_max:
            raise OverCapacity(
                f"expected at most {self.pending_max} entries that wait for their "
                f"commit, got {self.pending} and {len(changes)} more: try again"
            )
        for number, entry in changes:
            shard = self.shard(number)
            check_fits(shard.state, entry)
        for number, entry in changes:
            shard = self.slots[number]
            take_place(shard.state, entry, now)
            shard.write(entry)
        self.flush()

    cdef int hold(self, ReplyBuffer buffer) except -1:
        """Keeps the replies of `buffer` until what is pending now is durable."""
        if not buffer.held:
            buffer.held = True
            self._holding.append(buffer)
        return 0

    cdef int hurry(self, int64_t due_ms) noexcept:
        """Some approval of the commit being gathered is due by then: its request was
        read a while ago, or by another node."""
        self._pending_due = min(self._pending_due, due_ms)
        return 0

    def wait(self, future):
        """`future` is done when everything decided until now is released, or failed
        with what stopped the journal."""
        if self._fault is not None:
            future.set_exception(self._fault)
            return
        self._waiters.append(future)
        self.flush()

    cpdef flush(self):
        """To be called when a burst of requests has been decided."""
        if not self._committing and not self._scheduled:
            self._scheduled = True
            self._schedule(self.seal)

    cpdef seal(self):
        """Starts a commit with all that is pending, or releases what needs none."""
        cdef Shard shard
        cdef ReplyBuffer buffer
        cdef list deliveries = []
        cdef list waiters, records, holding
        cdef int replies
        self._scheduled = False
        if self._committing or self._fault is not None:
            return
        holding = self._holding
        self._holding = []
        for buffer in holding:
            replies = buffer.replies
            approvals = buffer.take_approvals()
            deliveries.append((buffer, buffer.take(), replies, approvals))
        waiters = self._waiters
        self._waiters = []
        if not self._changed and not (self.confirms and (deliveries or waiters)):
            self._deliver(deliveries, waiters)
            return
        if not self._changed:
            self._pending_since = self._now_ms()
        records = [shard.take() for shard in self._changed]
        self._changed_in_flight = self._changed
        self._changed = []
        self._committing = True
        self._records = records
        self._in_flight_since = self._pending_since
        self._in_flight_due = self._pending_due
        self._pending_due = INT64_MAX
        self._deliveries = deliveries
        self._waiters_in_flight = waiters
        self.in_flight = self.pending
        self.pending = 0
        self._submit(self._clock(), records)

    cpdef committed(self, uint64_t number):
        """The commit in flight is durable: its replies leave, the next one starts."""
        cdef list deliveries = self._deliveries
        cdef list waiters = self._waiters_in_flight
        cdef list records = self._records
        cdef list changed = self._changed_in_flight
        cdef int64_t now_ms = self._now_ms()
        cdef set withdrawn = self._withdrawn
        cdef Shard shard
        for shard in changed:
            shard.is_in_flight = False
        self._changed_in_flight = []
        self._records = []
        self._deliveries = []
        self._waiters_in_flight = []
        self._committing = False
        self.head = number
        self.entries += self.in_flight
        self.commits += bool(records)
        self.in_flight = 0
        if withdrawn:
            self._withdrawn = set()
        if (
            now_ms - self._in_flight_since + READ_MS_MAX > self.deadline_ms
            or now_ms > self._in_flight_due
        ):
            # What waits with the next commit may repeat such an approval.
            self._withdrawn = self._withdraw_late(
                changed, records, deliveries, now_ms
            )
            withdrawn = withdrawn | self._withdrawn
        if withdrawn:
            deliveries = [_declined(delivery, withdrawn) for delivery in deliveries]
        if self._changed:
            # Before the replies: the disk works on the next commit while they leave.
            self.seal()
        # Before them, too: a process killed in between must have noted every commit
        # that anybody was answered from.
        self._released(number)
        self._deliver(deliveries, waiters)
        if self._holding or self._waiters:
            self.flush()

    def stop(self, fault not None):
        """Nothing is answered any more: the journal cannot be written."""
        self._fault = fault
        for future in self._waiters + self._waiters_in_flight:
            if not future.done():
                future.set_exception(fault)

    def reset(self, fault not None, uint64_t head=0):
        """What is not released is not ours to tell any more: none of it is answered,
        no shard is here. What is opened then starts behind commit `head`."""
        cdef ReplyBuffer buffer
        cdef int replies
        deliveries, holding = self._deliveries, self._holding
        self.stop(fault)
        self.slots = [None] * len(self.slots)
        self._changed = []
        self._changed_in_flight = []
        self._records = []
        self._holding = []
        self._deliveries = []
        self._waiters = []
        self._waiters_in_flight = []
        self._withdrawn = set()
        self._committing = False
        self.pending = 0
        self.in_flight = 0
        self.head = head
        self._fault = None
        for buffer in holding:
            replies = buffer.replies
            buffer.take_approvals()
            buffer.take()
            buffer.forgo(replies)
        for buffer, _, replies, _ in deliveries:
            buffer.forgo(replies)

    @property
    def stopped(self):
        return self._fault is not None

    cdef int64_t _now_ms(self) except -1:
        # The monotonic clock: a wall clock that is set must not make anything late.
        return <int64_t> (self._monotonic() * 1000 + 0.5)

    @property
    def in_flight_ms(self):
        """How long the commit in flight has been written; 0 when there is none."""
        return self._now_ms() - self._in_flight_since if self._committing else 0

    cdef set _withdraw_late(
        self, list changed, list records, list deliveries, int64_t now_ms
    ):
        """Takes back the approvals of a commit that took too long to be durable.

        One whose transaction is not remembered any more cannot be taken back: it
        leaves, however late, for what it took stays taken.
        """
        cdef set late = _late(deliveries, now_ms)
        cdef int64_t now = self._clock()
        cdef Shard shard
        cdef Entry entry
        cdef set withdrawn = set()
        if not late:
            return withdrawn
        for shard, record in zip(changed, records):
            for entry in decode_entries(record.payload, record.first_sequence):
                if (record.shard, entry.sequence) not in late:
                    continue
                withdrawal = decide_withdrawal(shard.state, entry, now)
                if withdrawal is not None:
                    shard.write(withdrawal)
                    withdrawn.add((record.shard, entry.sequence))
        self.withdrawn += len(withdrawn)
        return withdrawn

    cdef int _deliver(self, list deliveries, list waiters) except -1:
        cdef ReplyBuffer buffer
        for buffer, frames, replies, _ in deliveries:
            buffer.deliver(frames, replies)
        for future in waiters:
            if not future.done():
                future.set_result(None)
        return 0


cdef set _late(list deliveries, int64_t now_ms):
    """(shard, sequence) of the approvals that are past their deadline."""
    cdef bytes approvals
    cdef Approval approval
    cdef Py_ssize_t at
    cdef set late = set()
    for _, _, _, approvals in deliveries:
        for at in range(0, len(approvals), <Py_ssize_t> sizeof(Approval)):
            memcpy(&approval, PyBytes_AS_STRING(approvals) + at, sizeof(Approval))
            if 0 < approval.due_ms < now_ms:
                late.add((approval.shard, approval.sequence))
    return late


cdef tuple _declined(tuple delivery, set withdrawn):
    """The delivery without the approvals that have been withdrawn; their declines wait
    for the withdrawals to be durable."""
    cdef ReplyBuffer buffer
    cdef bytes frames, approvals
    cdef Approval approval
    cdef Py_ssize_t at
    cdef Py_ssize_t kept_to = 0
    cdef list kept = []
    buffer, frames, replies, approvals = delivery
    for at in range(0, len(approvals), <Py_ssize_t> sizeof(Approval)):
        memcpy(&approval, PyBytes_AS_STRING(approvals) + at, sizeof(Approval))
        if (approval.shard, approval.sequence) in withdrawn:
            kept.append(frames[kept_to:approval.offset])
            kept_to = approval.offset + approval.size
            buffer.decline(frames[approval.offset:kept_to])
            replies -= 1
    kept.append(frames[kept_to:])
    return buffer, b"".join(kept), replies, approvals
