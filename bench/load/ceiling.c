/* The ceiling: what one core can do here for a server that frames messages, makes them
 * durable and answers, and does nothing else. No codec, no accounts, no duplicates, no
 * sessions, no limits worth the name: not a switch, but the bound of any.
 *
 *     ceiling PORT FILE
 *
 * Frames are binary2 (two bytes of length, big-endian, exclusive). An answer is the
 * request with its message type turned into the response's and field 39 = 00 put in,
 * which a fixed layout makes one memcpy: the load generator's 0100 and its sign-on.
 *
 * Group commit: requests that arrive while one fdatasync is in flight gather, and are
 * the next one's. Their answers leave after it, in one send per connection.
 * The commit thread owns `committing` from `start_commit` until the eventfd says so.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTION_COUNT_MAX = 64,
    INPUT_SIZE = 64 * 1024,   /* one recv, and at least the longest frame */
    OUTPUT_SIZE = 1024 * 1024, /* answers of one connection in one commit */
    LOG_SIZE = 8 * 1024 * 1024, /* requests of one commit */
    FRAME_HEADER_SIZE = 2,
    FRAME_SIZE_MIN = 52,
    FRAME_SIZE_MAX = 4096,
    EVENT_COUNT_MAX = 64,
};

struct connection {
    int socket;
    size_t input_size;
    size_t gathering_size, committing_size;
    uint8_t *gathering, *committing;
    uint8_t input[INPUT_SIZE];
};

static struct connection *connections[CONNECTION_COUNT_MAX];
static int connection_count;

static uint8_t *log_gathering, *log_committing;
static size_t log_gathering_size, log_committing_size;
static int log_file, committed;
static int commit_in_flight;
static uint64_t message_count, commit_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t commit_wanted = PTHREAD_COND_INITIALIZER;
static int wanted;
static volatile sig_atomic_t stopping;
static char listener_tag; /* its address tells the listener in epoll's events */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        fail("malloc");
    return memory;
}

static void *commit_thread(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (!wanted)
            pthread_cond_wait(&commit_wanted, &mutex);
        wanted = 0;
        pthread_mutex_unlock(&mutex);
        for (size_t done = 0; done < log_committing_size;) {
            ssize_t size =
                write(log_file, log_committing + done, log_committing_size - done);
            if (size < 0)
                fail("write");
            done += size;
        }
        if (fdatasync(log_file) != 0)
            fail("fdatasync");
        if (eventfd_write(committed, 1) != 0)
            fail("eventfd_write");
    }
    return NULL;
}

#define SWAP(a, b) do { __typeof__(a) swapped = a; a = b; b = swapped; } while (0)

static void start_commit(void)
{
    if (commit_in_flight || log_gathering_size == 0)
        return;
    SWAP(log_gathering, log_committing);
    log_committing_size = log_gathering_size;
    log_gathering_size = 0;
    for (int index = 0; index < connection_count; index++) {
        struct connection *connection = connections[index];
        SWAP(connection->gathering, connection->committing);
        connection->committing_size = connection->gathering_size;
        connection->gathering_size = 0;
    }
    commit_in_flight = 1;
    commit_count++;
    pthread_mutex_lock(&mutex);
    wanted = 1;
    pthread_cond_signal(&commit_wanted);
    pthread_mutex_unlock(&mutex);
}

/* Sending blocks: the load generator always reads, and what is outstanding fits into
 * the socket's buffers. */
static void release_answers(void)
{
    for (int index = 0; index < connection_count; index++) {
        struct connection *connection = connections[index];
        for (size_t done = 0; done < connection->committing_size;) {
            ssize_t size = send(connection->socket, connection->committing + done,
                                connection->committing_size - done, MSG_NOSIGNAL);
            if (size < 0)
                break; /* the client went away */
            done += size;
        }
        connection->committing_size = 0;
    }
}

/* Where field 39 goes, which is behind field 37 or, in a sign-on, behind field 11:
 *   0100  mti 4, bitmap 16, field 2 (LL), 3 4 7 11 12 13 14 18 22 25 (57 characters),
 *         field 32 (LL), 37 (12)
 *   0800  mti 4, bitmaps 32, 7 (10), 11 (6) */
static size_t field_39_offset(const uint8_t *message)
{
    size_t offset;
    if (message[1] == '8')
        return 4 + 32 + 10 + 6;
    offset = 20 + 2 + (message[20] - '0') * 10 + (message[21] - '0') + 57;
    return offset + 2 + (message[offset] - '0') * 10 + (message[offset + 1] - '0') + 12;
}

static void answer(struct connection *connection, const uint8_t *frame, size_t size)
{
    uint8_t *reply = connection->gathering + connection->gathering_size;
    size_t body_size = size - FRAME_HEADER_SIZE, offset = field_39_offset(frame + 2);
    uint8_t *digit = reply + 2 + 4 + 9; /* of the bitmap: fields 37 to 40 */
    if (offset > body_size)
        fail("a message of another layout");
    reply[0] = (body_size + 2) >> 8;
    reply[1] = (body_size + 2) & 0xff;
    memcpy(reply + 2, frame + 2, offset);
    reply[2 + 2] = '1';
    *digit = *digit == '8' ? 'A' : '2';
    memcpy(reply + 2 + offset, "00", 2);
    memcpy(reply + 2 + offset + 2, frame + 2 + offset, body_size - offset);
    connection->gathering_size += size + 2;
    memcpy(log_gathering + log_gathering_size, frame, size);
    log_gathering_size += size;
    message_count++;
}

/* False when the client is gone. What would overflow a buffer ends the program: no
 * measurement comes near it. */
static int receive(struct connection *connection)
{
    uint8_t *at = connection->input, *end;
    ssize_t size = recv(connection->socket, at + connection->input_size,
                        INPUT_SIZE - connection->input_size, MSG_DONTWAIT);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    if (size == 0)
        return 0;
    end = at + connection->input_size + size;
    while (end - at >= FRAME_HEADER_SIZE) {
        size_t frame_size = FRAME_HEADER_SIZE + (at[0] << 8 | at[1]);
        if (frame_size < FRAME_SIZE_MIN || frame_size > FRAME_SIZE_MAX)
            fail("a frame of another size");
        if ((size_t)(end - at) < frame_size)
            break;
        if (connection->gathering_size + frame_size + 2 > OUTPUT_SIZE
            || log_gathering_size + frame_size > LOG_SIZE)
            fail("too many outstanding requests");
        answer(connection, at, frame_size);
        at += frame_size;
    }
    connection->input_size = end - at;
    memmove(connection->input, at, connection->input_size);
    return 1;
}

static void accept_connection(int listener, int poll)
{
    int one = 1, socket = accept(listener, NULL, NULL);
    struct connection *connection;
    struct epoll_event event = {.events = EPOLLIN};
    if (socket < 0)
        return;
    if (connection_count == CONNECTION_COUNT_MAX) {
        close(socket);
        return;
    }
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection = allocate(sizeof *connection);
    memset(connection, 0, sizeof *connection);
    connection->socket = socket;
    connection->gathering = allocate(OUTPUT_SIZE);
    connection->committing = allocate(OUTPUT_SIZE);
    connections[connection_count++] = connection;
    event.data.ptr = connection;
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event) != 0)
        fail("epoll_ctl");
}

static void forget(struct connection *connection)
{
    for (int index = 0; index < connection_count; index++)
        if (connections[index] == connection)
            connections[index] = connections[--connection_count];
    close(connection->socket);
    free(connection->gathering);
    free(connection->committing);
    free(connection);
}

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static int listen_on(int port)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0
        || listen(listener, CONNECTION_COUNT_MAX) != 0)
        fail("listen");
    return listener;
}

static void serve(int listener, int poll)
{
    struct epoll_event events[EVENT_COUNT_MAX];
    while (!stopping) {
        int count = epoll_wait(poll, events, EVENT_COUNT_MAX, -1);
        for (int index = 0; index < count; index++) {
            void *source = events[index].data.ptr;
            if (source == &listener_tag) {
                accept_connection(listener, poll);
            } else if (source == &committed) {
                eventfd_t times;
                eventfd_read(committed, &times);
                commit_in_flight = 0;
                release_answers();
            } else if (!receive(source)) {
                forget(source);
            }
        }
        start_commit();
    }
}

int main(int argument_count, char **arguments)
{
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: ends epoll_wait */
    struct epoll_event event = {.events = EPOLLIN};
    pthread_t thread;
    int listener, poll = epoll_create1(0);
    if (argument_count != 3) {
        fprintf(stderr, "usage: ceiling PORT FILE\n");
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    log_file = open(arguments[2], O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log_file < 0)
        fail(arguments[2]);
    log_gathering = allocate(LOG_SIZE);
    log_committing = allocate(LOG_SIZE);
    committed = eventfd(0, 0);
    listener = listen_on(atoi(arguments[1]));
    event.data.ptr = &listener_tag;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &committed;
    epoll_ctl(poll, EPOLL_CTL_ADD, committed, &event);
    if (pthread_create(&thread, NULL, commit_thread, NULL) != 0)
        fail("pthread_create");
    serve(listener, poll);
    printf("{\"messages\": %llu, \"commits\": %llu}\n",
           (unsigned long long)message_count, (unsigned long long)commit_count);
    return 0;
}
