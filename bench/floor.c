/* The floor: what it costs the kernel to send ready-made bytes to N sockets, and nothing else.
 *
 *   floor PORT
 *
 * Accepts connections on 127.0.0.1, answers each request with the head of an event stream, and then
 * sends what comes on standard input to all of them: a line with a length, and so many bytes, are
 * one `send` to each socket, in a plain loop. Whoever drives it decides what is one record: an event,
 * or a burst of events put together beforehand. At the end of its input it prints how many sends
 * went out whole and how many did not (which makes a measurement void).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD_MAX = 1 << 20, BATCH = 256 };

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "9\r\n: floor\n\n\r\n";

static int *sockets;
static size_t socket_count, socket_room;
static unsigned long whole, broken;

static void send_to_all(const char *data, size_t length) {
    for (size_t i = 0; i < socket_count; i++) {
        if (send(sockets[i], data, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length)
            whole++;
        else
            broken++;
    }
}

static void take_input(const char *data, size_t length) {
    static char record[RECORD_MAX + 32];
    static size_t held;
    memcpy(record + held, data, length);
    held += length;
    for (;;) {
        char *end = memchr(record, '\n', held < 32 ? held : 32);
        if (!end)
            return;
        size_t size = strtoul(record, NULL, 10), begin = (size_t)(end + 1 - record);
        if (size + 65536 > RECORD_MAX) {
            fprintf(stderr, "floor: a record of %zu bytes\n", size);
            exit(1);
        }
        if (held < begin + size)
            return;
        send_to_all(end + 1, size);
        held -= begin + size;
        memmove(record, end + 1 + size, held);
    }
}

static void accept_all(int poller, int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

/* A request comes in one piece here, and clients send nothing else. */
static void answer(int fd) {
    char request[8192];
    ssize_t got = recv(fd, request, sizeof request, 0);
    if (got > 0 && socket_count < socket_room) {
        send(fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
        sockets[socket_count++] = fd;
        return;
    }
    for (size_t i = 0; i < socket_count; i++)
        if (sockets[i] == fd)
            sockets[i] = sockets[--socket_count];
    close(fd);
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    socket_room = files.rlim_cur;
    sockets = calloc(socket_room, sizeof *sockets);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0")),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 4096) < 0) {
        perror("floor");
        return 1;
    }
    int poller = epoll_create1(0);
    struct epoll_event events[BATCH], own = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &own);
    own.data.fd = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &own);
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(poller, listener);
            } else if (fd == 0) {
                static char input[65536];
                ssize_t got = read(0, input, sizeof input);
                if (got <= 0) {
                    printf("{\"whole\": %lu, \"broken\": %lu}\n", whole, broken);
                    return 0;
                }
                take_input(input, (size_t)got);
            } else {
                answer(fd);
            }
        }
    }
}
