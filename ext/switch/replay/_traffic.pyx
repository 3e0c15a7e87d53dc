# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The traffic generator's loop: requests out, replies in, latencies counted.

A plain poll() loop in C, not asyncio: a request and its reply cost well under a
microsecond, so that one core offers several times what the switch can answer, and
with a rate a request leaves within microseconds of its time (an event loop in Python
would add its own latency to the one it measures).

Rule 1: no message format is known here. A request is a template that the codec
  encoded, with digits written at places that the codec showed (request.py); a reply is
  decoded by the codec, and counts only if its STAN *and* its RRN are those of one
  request outstanding on that connection.
Rule 2: nothing waits beyond `until_ns`, so that the caller sees Ctrl-C.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset, strerror

from iso8583._codec cimport Codec, Message
from switch.link._framing cimport Cut, Framing
from switch.replay._digits cimport Place, put_digits, put_number
from switch.replay._poll cimport (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    SECOND_NS,
    clock_ns,
    gmtime_r,
    localtime_r,
    pollfd,
    ppoll,
    recv,
    send,
    time_t,
    timespec,
    tm,
)

from iso8583 import DecodeError
from switch.link.errors import FramingError

cdef enum:
    CONNECTION_COUNT_MAX = 1024   # poll() looks at each of them every time
    WINDOW_MAX = 65536
    OUTSTANDING_COUNT_MAX = 250000  # a quarter of the STANs: a free one is found soon
    TEMPLATE_COUNT_MAX = 8        # one per length of PAN, 12 to 19 digits
    TEMPLATE_SIZE_MAX = 2048      # our requests have no long fields
    PAN_SIZE_MAX = 19
    INPUT_SIZE = 262144           # several of the longest frames (64 KiB)
    PUSHED_SIZE = 65536           # room beside the requests, for replies to echoes
    STAN_MAX = 999999
    BUCKET_BITS = 7               # 128 buckets an octave: within 0.8%
    BUCKET_COUNT = 8192           # 64 octaves
    REFRESH_COUNT = 64            # requests between two looks at the clock
    CODE_COUNT = 65536            # two bytes
    MTI_REQUEST_REPLY = 0x0110


cdef struct Template:
    uint8_t frame[TEMPLATE_SIZE_MAX]
    int size
    Place pan
    Place amount
    Place transmitted             # field 7, MMDDhhmmss UTC
    Place stan
    Place local_time              # field 12, hhmmss
    Place local_date              # field 13, MMDD
    Place expiry
    Place rrn


cdef struct Card:
    uint8_t pan[PAN_SIZE_MAX]     # digits as numbers
    uint8_t expiry[4]
    uint8_t template_index


cdef struct Slot:
    uint32_t stan                 # 0: free
    int64_t sent_at_ns            # with a rate: when it should have been sent
    int64_t rrn


cdef struct Connection:
    int fd                        # borrowed from the caller's socket; -1: lost
    uint8_t* output
    Py_ssize_t output_start
    Py_ssize_t output_end
    uint8_t* input
    Py_ssize_t input_size
    int64_t input_offset          # of the first byte of `input` in the stream
    Slot* slots
    int outstanding


# Buckets 0 to 255 hold one nanosecond each, then every octave has 128: bucket
# b >= 256 begins at (128 + b % 128) << (b // 128 - 1).
cdef inline int bucket_of(uint64_t value) noexcept:
    cdef int shift = 0
    while value >= (2 << BUCKET_BITS):
        value >>= 1
        shift += 1
    return (shift << BUCKET_BITS) + <int>value


cdef double bucket_middle(int bucket) noexcept:
    cdef int shift = 0
    if bucket >= (2 << BUCKET_BITS):
        shift = (bucket >> BUCKET_BITS) - 1
    cdef uint64_t low = <uint64_t>(bucket - (shift << BUCKET_BITS)) << shift
    return <double>low + <double>(<uint64_t>1 << shift) / 2


@cython.final
cdef class Histogram:
    """Latencies, in buckets within 0.8% of each value."""

    cdef uint64_t buckets[BUCKET_COUNT]
    cdef readonly uint64_t count
    cdef readonly uint64_t value_max

    cpdef add(self, uint64_t value):
        self.record(value)

    cdef inline void record(self, uint64_t value) noexcept:
        self.buckets[bucket_of(value)] += 1
        self.count += 1
        if value > self.value_max:
            self.value_max = value

    def at_quantile(self, double quantile):
        """The value that `quantile` of all values do not exceed; 0 when empty."""
        cdef uint64_t seen = 0
        cdef double wanted = quantile * self.count
        cdef int bucket
        for bucket in range(BUCKET_COUNT):
            seen += self.buckets[bucket]
            if seen and seen >= wanted:
                return min(bucket_middle(bucket), <double>self.value_max)
        return 0.0


@cython.final
cdef class Traffic:
    """Up to `window` requests outstanding on each connection while it runs.

    `rate` 0 is a closed loop: an answer makes room for the next request at once.
    Otherwise requests are due at `rate` a second, whatever the answers do, and a
    latency counts from when the request was due: a stall of the switch is charged to
    every request that it delayed.

    `examine(connection_index, body)` gets each message that answers no request of ours
    (it may `push` a reply) and says whether it was to be expected.
    """

    cdef readonly Codec codec
    cdef readonly Framing framing
    cdef readonly Histogram latencies_ns
    cdef readonly int window
    cdef readonly int connection_count
    cdef readonly int open_count
    cdef readonly Py_ssize_t card_count
    cdef readonly uint64_t sent
    cdef readonly uint64_t answered
    cdef readonly uint64_t answered_in_time     # before stop()
    cdef readonly uint64_t unexpected
    cdef readonly int outstanding
    cdef readonly int64_t started_at_ns
    cdef readonly int64_t stopped_at_ns
    cdef readonly list faults                   # (connection index, what)
    cdef object examine
    cdef Connection* connections
    cdef pollfd* polled
    cdef Template* templates
    cdef int template_count
    cdef Card* cards
    cdef Py_ssize_t card_capacity
    cdef uint64_t* code_counts
    cdef uint64_t random_state
    cdef int64_t rrn_next
    cdef uint32_t stan_last
    cdef uint32_t slot_mask
    cdef uint32_t amount_max
    cdef int64_t now_ns
    cdef int64_t now_ns_at_stop
    cdef int64_t dressed_at_s                   # the second that the templates tell
    cdef double interval_ns                     # 0: closed loop
    cdef uint64_t scheduled                     # how much of the schedule is sent
    cdef int turn
    cdef bint sending

    def __cinit__(self):
        self.connections = <Connection*>calloc(
            CONNECTION_COUNT_MAX, sizeof(Connection)
        )
        self.polled = <pollfd*>calloc(CONNECTION_COUNT_MAX, sizeof(pollfd))
        self.templates = <Template*>calloc(TEMPLATE_COUNT_MAX, sizeof(Template))
        self.code_counts = <uint64_t*>calloc(CODE_COUNT, sizeof(uint64_t))
        if not (
            self.connections and self.polled and self.templates and self.code_counts
        ):
            raise MemoryError

    def __dealloc__(self):
        cdef int index
        if self.connections:
            for index in range(self.connection_count):
                free(self.connections[index].output)
                free(self.connections[index].input)
                free(self.connections[index].slots)
        free(self.connections)
        free(self.polled)
        free(self.templates)
        free(self.cards)
        free(self.code_counts)

    def __init__(
        self,
        Codec codec not None,
        Framing framing not None,
        *,
        int window,
        uint32_t amount_max,
        uint64_t seed,
        int64_t rrn_first,
        double rate,
        examine,
    ):
        cdef uint32_t slot_count = 1024
        if not 1 <= window <= WINDOW_MAX:
            raise ValueError(f"window: expected 1 to {WINDOW_MAX}, got {window}")
        if amount_max < 1:
            raise ValueError(f"amount_max: expected at least 1, got {amount_max}")
        while slot_count < 4 * <uint32_t>window:
            slot_count *= 2
        self.codec = codec
        self.framing = framing
        self.latencies_ns = Histogram()
        self.window = window
        self.amount_max = amount_max
        # xorshift has no way out of 0
        self.random_state = (seed * 2 + 1) * 0x9E3779B97F4A7C15ULL
        self.rrn_next = rrn_first
        self.slot_mask = slot_count - 1
        self.interval_ns = SECOND_NS / rate if rate > 0 else 0.0
        self.faults = []
        self.examine = examine
        self.dressed_at_s = -1

    def add_template(self, bytes frame not None, dict places not None):
        """A request as the codec encoded it, header included; gives its index."""
        cdef Template* template
        if self.template_count == TEMPLATE_COUNT_MAX:
            raise ValueError(f"expected at most {TEMPLATE_COUNT_MAX} templates")
        if len(frame) > TEMPLATE_SIZE_MAX:
            raise ValueError(
                f"request: expected at most {TEMPLATE_SIZE_MAX} bytes, got {len(frame)}"
            )
        template = &self.templates[self.template_count]
        memcpy(template.frame, <const char*>frame, len(frame))
        template.size = <int>len(frame)
        template.pan = _place(places, "pan", template.size)
        template.amount = _place(places, "amount", template.size)
        template.transmitted = _place(places, "transmitted", template.size)
        template.stan = _place(places, "stan", template.size)
        template.local_time = _place(places, "local_time", template.size)
        template.local_date = _place(places, "local_date", template.size)
        template.expiry = _place(places, "expiry", template.size)
        template.rrn = _place(places, "rrn", template.size)
        if template.pan.count > PAN_SIZE_MAX or template.expiry.count != 4:
            raise ValueError("request: expected a PAN of at most 19 digits and YYMM")
        self.template_count += 1
        return self.template_count - 1

    def add_card(self, bytes pan not None, bytes expiry not None, int template_index):
        """A card in ASCII digits; its template must have a PAN of that length."""
        cdef Card* card
        cdef Py_ssize_t capacity
        cdef int index
        assert 0 <= template_index < self.template_count
        assert len(pan) == self.templates[template_index].pan.count
        assert len(expiry) == 4 and pan.isdigit() and expiry.isdigit()
        if self.card_count == self.card_capacity:
            capacity = max(1024, 2 * self.card_capacity)
            card = <Card*>realloc(self.cards, capacity * sizeof(Card))
            if card == NULL:
                raise MemoryError
            self.cards = card
            self.card_capacity = capacity
        card = &self.cards[self.card_count]
        for index in range(<int>len(pan)):
            card.pan[index] = pan[index] - 48
        for index in range(4):
            card.expiry[index] = expiry[index] - 48
        card.template_index = <uint8_t>template_index
        self.card_count += 1

    def add_connection(self, int fd):
        """A connected socket, which the caller keeps open; gives its index."""
        cdef Connection* connection
        if self.connection_count == CONNECTION_COUNT_MAX:
            raise ValueError(f"expected at most {CONNECTION_COUNT_MAX} connections")
        if (self.connection_count + 1) * self.window > OUTSTANDING_COUNT_MAX:
            raise ValueError(
                "connections times window: expected at most "
                f"{OUTSTANDING_COUNT_MAX} requests outstanding"
            )
        connection = &self.connections[self.connection_count]
        self.connection_count += 1
        self.open_count += 1
        connection.fd = fd
        connection.output = <uint8_t*>malloc(self.output_capacity())
        connection.input = <uint8_t*>malloc(INPUT_SIZE)
        connection.slots = <Slot*>calloc(self.slot_mask + 1, sizeof(Slot))
        if not (connection.output and connection.input and connection.slots):
            raise MemoryError
        return self.connection_count - 1

    def start(self):
        assert self.card_count and self.connection_count
        self.sending = True
        self.started_at_ns = clock_ns(CLOCK_MONOTONIC)

    def stop(self):
        """No request after this; `run` then only collects answers."""
        self.sending = False
        self.stopped_at_ns = clock_ns(CLOCK_MONOTONIC)
        self.now_ns_at_stop = self.now_ns
        self.answered_in_time = self.answered

    def push(self, int index, bytes frame not None):
        """Sends a whole frame that is not one of our requests."""
        cdef Connection* connection = &self.connections[index]
        assert 0 <= index < self.connection_count
        if connection.fd >= 0 and self.reserve(connection, len(frame)):
            memcpy(connection.output + connection.output_end, <const char*>frame,
                   len(frame))
            connection.output_end += len(frame)

    @property
    def overdue(self):
        """Requests of the schedule that were due before stop() and never sent."""
        cdef double due
        if not self.interval_ns:
            return 0
        # now_ns is when the schedule was last followed
        due = (self.now_ns_at_stop - self.started_at_ns) / self.interval_ns
        return max(0, <int64_t>due + 1 - <int64_t>self.scheduled)

    @property
    def response_codes(self):
        """How often each response code came; "" where field 39 was absent."""
        cdef int code
        counts = {}
        for code in range(CODE_COUNT):
            if self.code_counts[code]:
                text = bytes((code >> 8, code & 255)).decode("latin-1") if code else ""
                counts[text] = self.code_counts[code]
        return counts

    def run(self, int64_t until_ns):
        """Goes on until that moment (CLOCK_MONOTONIC), a signal, or nothing to do."""
        self.now_ns = clock_ns(CLOCK_MONOTONIC)
        while self.sending or self.outstanding:
            if not self.turn_over(until_ns):
                break

    def listen(self, int64_t until_ns):
        """As `run`, also when no request of ours is outstanding."""
        self.now_ns = clock_ns(CLOCK_MONOTONIC)
        while self.turn_over(until_ns):
            pass

    cdef bint turn_over(self, int64_t until_ns) except -1:
        """One turn of the loop; False when it is time to return to the caller."""
        cdef int index
        self.produce()
        if self.open_count == 0 or self.now_ns >= until_ns:
            return False
        if self.wait(until_ns) < 0:
            return False
        for index in range(self.connection_count):
            if self.polled[index].revents & ~POLLOUT:
                self.receive(index)
        return True

    cdef int produce(self) except -1:
        """Everything that is due, written and sent as far as the sockets take it."""
        cdef int index
        cdef Connection* connection
        if self.sending:
            self.dress()
            if self.interval_ns:
                self.follow_schedule()
            else:
                for index in range(self.connection_count):
                    self.fill(&self.connections[index])
        for index in range(self.connection_count):
            connection = &self.connections[index]
            if connection.output_end > connection.output_start:
                self.flush(index)
        return 0

    cdef void fill(self, Connection* connection) noexcept:
        cdef int count = 0
        while connection.fd >= 0 and connection.outstanding < self.window:
            if not self.compose(connection, self.now_ns):
                return
            count += 1
            if count % REFRESH_COUNT == 0:
                self.now_ns = clock_ns(CLOCK_MONOTONIC)

    cdef void follow_schedule(self) noexcept:
        cdef int tried = 0
        cdef int64_t due_at_ns
        cdef Connection* connection
        while tried < self.connection_count:
            due_at_ns = self.due_at_ns()
            if due_at_ns > self.now_ns:
                return
            connection = &self.connections[self.turn]
            self.turn = (self.turn + 1) % self.connection_count
            if (
                connection.fd >= 0
                and connection.outstanding < self.window
                and self.compose(connection, due_at_ns)
            ):
                self.scheduled += 1
                tried = 0
            else:
                tried += 1

    cdef inline int64_t due_at_ns(self) noexcept:
        return self.started_at_ns + <int64_t>(self.scheduled * self.interval_ns)

    cdef int wait(self, int64_t until_ns) except? -2:
        """Until a socket is ready or the next request is due; -1 after a signal."""
        cdef timespec timeout
        cdef int64_t timeout_ns = until_ns
        cdef int index, ready
        cdef unsigned long count = self.connection_count
        cdef Connection* connection
        if self.sending and self.interval_ns and self.room():
            timeout_ns = min(until_ns, self.due_at_ns())
        timeout_ns = max(0, timeout_ns - clock_ns(CLOCK_MONOTONIC))
        timeout.tv_sec = timeout_ns // SECOND_NS
        timeout.tv_nsec = timeout_ns % SECOND_NS
        for index in range(self.connection_count):
            connection = &self.connections[index]
            self.polled[index].fd = connection.fd   # poll() skips negative ones
            self.polled[index].events = POLLIN
            if connection.output_end > connection.output_start:
                self.polled[index].events = POLLIN | POLLOUT
        with nogil:
            ready = ppoll(self.polled, count, &timeout, NULL)
        self.now_ns = clock_ns(CLOCK_MONOTONIC)
        if ready < 0:
            if errno == EINTR:
                return -1
            raise OSError(errno, "poll failed")
        return ready

    cdef bint room(self) noexcept:
        cdef int index
        for index in range(self.connection_count):
            if (
                self.connections[index].fd >= 0
                and self.connections[index].outstanding < self.window
            ):
                return True
        return False

    cdef Py_ssize_t output_capacity(self) noexcept:
        # a window of requests may be waiting to be sent, and a frame we push
        return <Py_ssize_t>self.window * TEMPLATE_SIZE_MAX // 4 + PUSHED_SIZE

    cdef bint reserve(self, Connection* connection, Py_ssize_t size) noexcept:
        """Room for that many bytes of output; False: the peer must read first."""
        cdef Py_ssize_t waiting = connection.output_end - connection.output_start
        if connection.output_end + size <= self.output_capacity():
            return True
        if waiting + size > self.output_capacity():
            return False
        memmove(
            connection.output, connection.output + connection.output_start, waiting
        )
        connection.output_start = 0
        connection.output_end = waiting
        return True

    cdef bint compose(self, Connection* connection, int64_t sent_at_ns) noexcept:
        """One request into the output; False when that is full."""
        cdef uint64_t drawn = self.draw()
        cdef Card* card = &self.cards[
            <Py_ssize_t>((<uint64_t>(drawn >> 32) * <uint64_t>self.card_count) >> 32)
        ]
        cdef Template* template = &self.templates[card.template_index]
        cdef uint8_t* frame
        cdef Slot* slot
        if not self.reserve(connection, template.size):
            return False
        frame = connection.output + connection.output_end
        connection.output_end += template.size
        slot = self.take_slot(connection)
        slot.sent_at_ns = sent_at_ns
        memcpy(frame, template.frame, template.size)
        put_digits(frame, &template.pan, card.pan)
        put_digits(frame, &template.expiry, card.expiry)
        put_number(
            frame, &template.amount, 1 + (drawn & 0xFFFFFFFF) % self.amount_max
        )
        put_number(frame, &template.stan, slot.stan)
        put_number(frame, &template.rrn, slot.rrn)
        connection.outstanding += 1
        self.outstanding += 1
        self.sent += 1
        return True

    cdef Slot* take_slot(self, Connection* connection) noexcept:
        """The next free STAN and RRN.

        STANs are counted over all connections: they repeat after 999,999 requests,
        more than one second has, so (7, 11) is unique in a run; (7, 11, 37) is so
        across runs, the RRNs of each beginning at random.
        """
        cdef Slot* slot = NULL
        while slot == NULL or slot.stan != 0:
            self.stan_last = 1 if self.stan_last == STAN_MAX else self.stan_last + 1
            slot = &connection.slots[self.stan_last & self.slot_mask]
        slot.stan = self.stan_last
        slot.rrn = self.rrn_next
        self.rrn_next = (self.rrn_next + 1) % 1000000000000
        return slot

    cdef inline uint64_t draw(self) noexcept:
        # xorshift64*: fast, and the same cards and amounts for the same seed
        self.random_state ^= self.random_state >> 12
        self.random_state ^= self.random_state << 25
        self.random_state ^= self.random_state >> 27
        return self.random_state * 0x2545F4914F6CDD1DULL

    cdef void dress(self) noexcept:
        """Writes the time into the templates, once a second."""
        cdef time_t at = clock_ns(CLOCK_REALTIME) // SECOND_NS
        cdef tm utc
        cdef tm local
        cdef Template* template
        cdef int index
        if at == self.dressed_at_s:
            return
        self.dressed_at_s = at
        gmtime_r(&at, &utc)
        localtime_r(&at, &local)
        for index in range(self.template_count):
            template = &self.templates[index]
            put_number(
                template.frame, &template.transmitted,
                (utc.tm_mon + 1) * 100000000 + utc.tm_mday * 1000000
                + utc.tm_hour * 10000 + utc.tm_min * 100 + utc.tm_sec,
            )
            put_number(
                template.frame, &template.local_time,
                local.tm_hour * 10000 + local.tm_min * 100 + local.tm_sec,
            )
            put_number(
                template.frame, &template.local_date,
                (local.tm_mon + 1) * 100 + local.tm_mday,
            )

    cdef int flush(self, int index) except -1:
        cdef Connection* connection = &self.connections[index]
        cdef Py_ssize_t written = send(
            connection.fd,
            connection.output + connection.output_start,
            connection.output_end - connection.output_start,
            MSG_DONTWAIT | MSG_NOSIGNAL,
        )
        if written < 0:
            if errno != EAGAIN and errno != EINTR:
                self.lose(index, strerror(errno).decode())
            return 0
        connection.output_start += written
        if connection.output_start == connection.output_end:
            connection.output_start = 0
            connection.output_end = 0
        return 0

    cdef int receive(self, int index) except -1:
        cdef Connection* connection = &self.connections[index]
        cdef Py_ssize_t got = recv(
            connection.fd,
            connection.input + connection.input_size,
            INPUT_SIZE - connection.input_size,
            MSG_DONTWAIT,
        )
        if got < 0:
            if errno != EAGAIN and errno != EINTR:
                self.lose(index, strerror(errno).decode())
            return 0
        if got == 0:
            self.lose(index, "closed by the other side")
            return 0
        connection.input_size += got
        try:
            self.split(index)
        except FramingError as error:
            self.lose(index, str(error))
        return 0

    cdef int split(self, int index) except -1:
        cdef Connection* connection = &self.connections[index]
        cdef Py_ssize_t at = 0
        cdef Cut cut
        while self.framing.cut(
            connection.input + at,
            connection.input_size - at,
            connection.input_offset + at,
            &cut,
        ):
            if cut.body_size:
                self.take(
                    index, connection.input + at + cut.body_offset, cut.body_size
                )
            at += cut.frame_size
        connection.input_size -= at
        connection.input_offset += at
        memmove(connection.input, connection.input + at, connection.input_size)
        return 0

    cdef int take(self, int index, const uint8_t* body, Py_ssize_t size) except -1:
        cdef Connection* connection = &self.connections[index]
        cdef Message message
        cdef Slot* slot
        cdef int64_t stan, rrn
        try:
            message = self.codec.decode_buffer(body, size)
        except DecodeError as error:
            self.unexpected += 1
            self.note(index, str(error))
            return 0
        if message.mti_number == MTI_REQUEST_REPLY:
            stan = message.number(11)
            rrn = message.number(37)
            slot = &connection.slots[stan & self.slot_mask]
            # a reply that leaves out field 37 is known by its STAN alone
            if stan > 0 and slot.stan == stan and (rrn == -1 or rrn == slot.rrn):
                self.settle(connection, slot, message)
                return 0
        if not self.examine(index, body[:size]):
            self.unexpected += 1
        return 0

    cdef void settle(
        self, Connection* connection, Slot* slot, Message message
    ) noexcept:
        cdef uint8_t code[2]
        cdef int64_t latency_ns = self.now_ns - slot.sent_at_ns
        memset(code, 0, 2)
        message.text(39, code, 2)
        self.code_counts[(code[0] << 8) | code[1]] += 1
        self.latencies_ns.record(<uint64_t>max(0, latency_ns))
        slot.stan = 0
        connection.outstanding -= 1
        self.outstanding -= 1
        self.answered += 1

    cdef int lose(self, int index, str why) except -1:
        # what is outstanding stays so: it is what the connection took with it
        self.connections[index].fd = -1
        self.connections[index].output_end = 0
        self.connections[index].output_start = 0
        self.outstanding -= self.connections[index].outstanding
        self.open_count -= 1
        self.note(index, why)
        return 0

    cdef int note(self, int index, str what) except -1:
        if len(self.faults) < CONNECTION_COUNT_MAX:
            self.faults.append((index, what))
        return 0


cdef Place _place(dict places, str name, int frame_size) except *:
    cdef Place place
    place.first, place.stride, place.count = places[name]
    assert place.stride in (1, 2) and 0 <= place.first and place.count > 0
    assert place.first + (place.count - 1) * place.stride < 2 * frame_size
    return place
