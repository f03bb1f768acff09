/* A load client: many event streams, or many requests, from one thread.
 *
 *   client stream  HOST PORT PATH        [options]   commands on standard input (see below)
 *   client request HOST PORT METHOD PATH [options]   prints one JSON object at its end
 *
 *   --header "Name: value"   sent with every request, any number of times
 *   --events N               stream: the highest sequence number + 1 (default 40000)
 *   --window N               stream: how many connections may be opening at a time (default 64)
 *   --connections N          request: how many connections (default 1)
 *   --count N, --seconds S   request: when to stop (default: 10 s)
 *   --pause MS               request: how long a connection rests after an answer (default 0)
 *   --body TEXT              request: what is sent; {n} becomes a number that is used once, in
 *                            headers too
 *
 * An event that is to be counted has "@@SEQUENCE@NANOSECONDS@" in its data: a number that grows by
 * one with every event, and CLOCK_MONOTONIC when it was published. Every stream notes in a bitmap
 * which numbers it was given, so the counts are exact: delivered, doubled, missing, out of order.
 *
 * Commands of `stream`, one a line, each answered by a line of JSON:
 *   open N            opens N more streams; answers when their response heads are there
 *   clear             sets counts and latencies to zero (the bitmaps stay)
 *   wait N MS         answers when N events were delivered since `clear`, at the latest after MS
 *   ended MS          answers when all streams have ended, at the latest after MS
 *   stats FIRST LAST  all counts; `missing` looks at the numbers from FIRST to LAST
 *   quit
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 18, HEAD_MAX = 1 << 14, PARTIAL_MAX = 1 << 21, BATCH = 1024 };

static char read_buffer[READ_BYTES];
static struct sockaddr_in server;
static int poller;
static char extra_headers[8192];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Latencies: 32 buckets for each power of two, so every value is known to 3 %. */

enum { SUB_BITS = 5, SUB = 1 << SUB_BITS, BUCKETS = 64 * SUB };

typedef struct {
    uint64_t counts[BUCKETS];
    uint64_t total, max, sum;
} Histogram;

static int bucket_of(uint64_t value) {
    if (value < SUB)
        return (int)value;
    int shift = 63 - __builtin_clzll(value) - SUB_BITS;
    return (shift + 1) * SUB + (int)((value >> shift) & (SUB - 1));
}

static uint64_t bucket_top(int bucket) {
    if (bucket < SUB)
        return (uint64_t)bucket;
    int shift = bucket / SUB - 1;
    return (((uint64_t)(bucket % SUB + SUB) + 1) << shift) - 1;
}

static void note(Histogram *h, uint64_t value) {
    h->counts[bucket_of(value)]++;
    h->total++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
}

static double percentile_ms(const Histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->total + 0.999999), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= wanted && seen) {
            uint64_t top = bucket_top(i);
            return (double)(top < h->max ? top : h->max) / 1e6;
        }
    }
    return 0;
}

static void print_histogram(const char *name, const Histogram *h) {
    printf("\"%s\": {\"count\": %lu, \"mean\": %.4f, \"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, "
           "\"p999\": %.4f, \"max\": %.4f, \"buckets\": [",
           name, h->total, h->total ? (double)h->sum / (double)h->total / 1e6 : 0.0,
           percentile_ms(h, 0.5), percentile_ms(h, 0.9), percentile_ms(h, 0.99),
           percentile_ms(h, 0.999), (double)h->max / 1e6);
    const char *comma = "";
    for (int i = 0; i < BUCKETS; i++)
        if (h->counts[i]) {
            printf("%s[%.6g, %lu]", comma, (double)bucket_top(i) / 1e6, h->counts[i]);
            comma = ", ";
        }
    printf("]}");
}

static int connect_to_server(void *owner) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        fail("socket");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail("connect");
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = owner};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
    return fd;
}

static void watch(int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event) < 0)
        fail("epoll_ctl");
}

/* Bytes that wait for their rest: of a head, a line, an answer. */

typedef struct {
    char *data;
    uint32_t length, size;
} Partial;

static void append(Partial *partial, const char *data, size_t length) {
    size_t wanted = partial->length + length + 1;
    if (wanted > PARTIAL_MAX) {
        fprintf(stderr, "client: a head, line or answer is longer than %d bytes\n", PARTIAL_MAX);
        exit(1);
    }
    if (wanted > partial->size) {
        size_t size = partial->size ? partial->size : 256;
        while (size < wanted)
            size *= 2;
        partial->data = realloc(partial->data, size);
        if (!partial->data)
            fail("realloc");
        partial->size = (uint32_t)size;
    }
    memcpy(partial->data + partial->length, data, length);
    partial->length += (uint32_t)length;
    partial->data[partial->length] = 0;
}

static void drop(Partial *partial) {
    free(partial->data);
    *partial = (Partial){0};
}

static bool find_stamp(const char *data, size_t length, uint64_t *sequence, uint64_t *stamp) {
    const char *at = memmem(data, length, "@@", 2);
    if (!at)
        return false;
    char *rest;
    *sequence = strtoull(at + 2, &rest, 10);
    if (*rest != '@')
        return false;
    *stamp = strtoull(rest + 1, &rest, 10);
    return *rest == '@';
}

/* Streams */

enum { CONNECTING, HEAD, BODY, ENDED };
enum { SIZE_LINE, DATA, DATA_END, LAST_LINE };
enum { MESSAGE, PODS, PING, BYE, RESET, DELETED, OTHER, NAMES };
static const char *const NAMES_OF[NAMES] = {"", "pods", "ping", "bye", "reset", "deleted", "other"};

typedef struct {
    int fd;
    uint8_t state, chunk_state, name;
    bool is_chunked, is_stamped, has_id;
    uint32_t chunk_left;
    int64_t highest;
    uint64_t sequence, stamp, id_ms, id_seq, last_ms, last_seq, asked_at;
    uint64_t *bits;
    Partial partial;
} Stream;

static struct {
    Histogram latency, opening;
    uint64_t delivered, doubled, out_of_order, beyond, ids_not_growing, retries;
    uint64_t bytes, named[NAMES];
} counts;

static Stream *streams;
static size_t stream_count, stream_room, opening, open_now, to_open, failed, refused;
static size_t ended_cleanly, ended_cut;
static size_t window = 64, max_events = 40000;
static char stream_request[16384];
static uint64_t read_at, packets_before;

static void start_stream(void) {
    Stream *s = &streams[stream_count++];
    *s = (Stream){.state = CONNECTING, .highest = -1, .asked_at = now_ns()};
    s->bits = calloc((max_events + 63) / 64, 8);
    if (!s->bits)
        fail("calloc");
    opening++;
    to_open--;
    s->fd = connect_to_server(s);
}

static void end_stream(Stream *s, bool is_clean) {
    if (s->state == CONNECTING || s->state == HEAD) {
        opening--;
        failed++;
    } else {
        open_now--;
        if (is_clean)
            ended_cleanly++;
        else
            ended_cut++;
    }
    s->state = ENDED;
    close(s->fd);
    drop(&s->partial);
}

static void count_event(Stream *s) {
    uint64_t n = s->sequence;
    if (n >= max_events) {
        counts.beyond++;
        return;
    }
    uint64_t bit = 1ull << (n % 64);
    if (s->bits[n / 64] & bit) {
        counts.doubled++;
        return;
    }
    s->bits[n / 64] |= bit;
    counts.delivered++;
    if ((int64_t)n < s->highest)
        counts.out_of_order++;
    else
        s->highest = (int64_t)n;
    note(&counts.latency, read_at > s->stamp ? read_at - s->stamp : 0);
}

static void end_event(Stream *s) {
    if (s->is_stamped)
        count_event(s);
    /* The first event repeats the cursor. */
    if (s->has_id && s->name != PODS) {
        if (s->id_ms < s->last_ms || (s->id_ms == s->last_ms && s->id_seq <= s->last_seq))
            counts.ids_not_growing++;
        s->last_ms = s->id_ms;
        s->last_seq = s->id_seq;
    }
    counts.named[s->name]++;
    s->name = MESSAGE;
    s->is_stamped = s->has_id = false;
}

static const char *value_of(const char *line, size_t length, const char *field) {
    size_t size = strlen(field);
    if (length < size || memcmp(line, field, size))
        return NULL;
    return line + size + (line[size] == ' ');
}

/* A line is followed by a byte that ends every number in it. */
static void take_line(Stream *s, const char *line, size_t length) {
    const char *value;
    if (length && line[length - 1] == '\r')
        length--;
    if (!length) {
        end_event(s);
    } else if ((value = value_of(line, length, "data:"))) {
        s->is_stamped |= find_stamp(value, length - (size_t)(value - line), &s->sequence, &s->stamp);
    } else if ((value = value_of(line, length, "id:"))) {
        char *rest;
        s->id_ms = strtoull(value, &rest, 10);
        if ((s->has_id = *rest == '-' && rest > value))
            s->id_seq = strtoull(rest + 1, NULL, 10);
    } else if ((value = value_of(line, length, "event:"))) {
        size_t size = length - (size_t)(value - line);
        for (s->name = PODS; s->name < OTHER; s->name++)
            if (strlen(NAMES_OF[s->name]) == size && !memcmp(value, NAMES_OF[s->name], size))
                break;
    } else if (value_of(line, length, "retry:")) {
        counts.retries++;
    }
}

static void take_body(Stream *s, const char *data, size_t length) {
    while (length) {
        const char *end = memchr(data, '\n', length);
        size_t size = end ? (size_t)(end - data) : length;
        if (!end) {
            append(&s->partial, data, size);
            return;
        }
        if (s->partial.length) {
            append(&s->partial, data, size);
            take_line(s, s->partial.data, s->partial.length);
            drop(&s->partial);
        } else {
            take_line(s, data, size);
        }
        data += size + 1;
        length -= size + 1;
    }
}

/* Gives true when the last chunk has been seen. A chunk's size line may come in pieces. */
static bool take_chunks(Stream *s, const char *data, size_t length) {
    while (length) {
        switch (s->chunk_state) {
        case SIZE_LINE: {
            char c = *data++;
            length--;
            if (c == '\n') {
                s->chunk_state = s->chunk_left ? DATA : LAST_LINE;
            } else if (c != '\r') {
                uint32_t digit = c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 32) - 'a' + 10);
                if (digit > 15) {
                    fprintf(stderr, "client: not a chunk's size\n");
                    exit(1);
                }
                s->chunk_left = s->chunk_left * 16 + digit;
            }
            break;
        }
        case DATA: {
            size_t size = length < s->chunk_left ? length : s->chunk_left;
            take_body(s, data, size);
            data += size;
            length -= size;
            s->chunk_left -= (uint32_t)size;
            if (!s->chunk_left)
                s->chunk_state = DATA_END;
            break;
        }
        case DATA_END:
            length--;
            if (*data++ == '\n')
                s->chunk_state = SIZE_LINE;
            break;
        case LAST_LINE:
            length--;
            if (*data++ == '\n')
                return true;
        }
    }
    return false;
}

static void take_bytes(Stream *s, const char *data, size_t length) {
    if (s->state == HEAD) {
        size_t before = s->partial.length;
        append(&s->partial, data, length < HEAD_MAX ? length : HEAD_MAX);
        char *end = strstr(s->partial.data, "\r\n\r\n");
        if (!end)
            return;
        size_t used = (size_t)(end + 4 - s->partial.data) - before;
        if (strncmp(s->partial.data, "HTTP/1.1 200", 12)) {
            refused++;
            end_stream(s, false);
            return;
        }
        *end = 0;
        s->is_chunked = strcasestr(s->partial.data, "transfer-encoding: chunked") != NULL;
        drop(&s->partial);
        s->state = BODY;
        opening--;
        open_now++;
        note(&counts.opening, read_at - s->asked_at);
        data += used;
        length -= used;
    }
    if (!s->is_chunked)
        take_body(s, data, length);
    else if (take_chunks(s, data, length))
        end_stream(s, true);
}

static void serve_stream(Stream *s, uint32_t events) {
    if (s->state == CONNECTING) {
        size_t length = strlen(stream_request);
        if ((events & (EPOLLERR | EPOLLHUP)) ||
            send(s->fd, stream_request, length, MSG_NOSIGNAL) != (ssize_t)length) {
            end_stream(s, false);
            return;
        }
        s->state = HEAD;
        watch(s->fd, EPOLLIN, s);
        return;
    }
    ssize_t got = recv(s->fd, read_buffer, READ_BYTES - 1, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    read_at = now_ns();
    if (got <= 0) {
        end_stream(s, got == 0 && s->state == BODY && !s->is_chunked);
        return;
    }
    read_buffer[got] = 0;
    counts.bytes += (uint64_t)got;
    take_bytes(s, read_buffer, (size_t)got);
}

static uint64_t seen_between(const Stream *s, uint64_t first, uint64_t last) {
    uint64_t seen = 0;
    for (uint64_t n = first; n <= last && n < max_events;) {
        if (n % 64 == 0 && n + 63 <= last && n + 64 <= max_events) {
            seen += (uint64_t)__builtin_popcountll(s->bits[n / 64]);
            n += 64;
        } else {
            seen += s->bits[n / 64] >> (n % 64) & 1;
            n++;
        }
    }
    return seen;
}

/* How many packets with data the kernel has got for all open streams: as many as were sent. */
static uint64_t count_packets(void) {
    uint64_t count = 0;
    for (size_t i = 0; i < stream_count; i++) {
        /* tcpi_data_segs_in of Linux's struct tcp_info; libc only declares the beginning of the struct. */
        uint32_t info[64] = {0};
        socklen_t size = sizeof info;
        if (streams[i].state == BODY && !getsockopt(streams[i].fd, SOL_TCP, TCP_INFO, info, &size))
            count += info[38];
    }
    return count;
}

static void print_stats(uint64_t first, uint64_t last) {
    uint64_t missing = 0;
    for (size_t i = 0; last >= first && i < stream_count; i++)
        missing += last - first + 1 - seen_between(&streams[i], first, last);
    printf("{\"streams\": %zu, \"open\": %zu, \"failed\": %zu, \"refused\": %zu, "
           "\"ended_cleanly\": %zu, \"ended_cut\": %zu, \"delivered\": %lu, \"doubled\": %lu, "
           "\"missing\": %lu, \"out_of_order\": %lu, \"beyond\": %lu, \"ids_not_growing\": %lu, "
           "\"bytes\": %lu, \"packets\": %lu, \"retries\": %lu, ",
           stream_count, open_now, failed, refused, ended_cleanly, ended_cut, counts.delivered,
           counts.doubled, missing, counts.out_of_order, counts.beyond, counts.ids_not_growing,
           counts.bytes, count_packets() - packets_before, counts.retries);
    for (int i = PODS; i < NAMES; i++)
        printf("\"%s\": %lu, ", NAMES_OF[i], counts.named[i]);
    print_histogram("latency_ms", &counts.latency);
    printf(", ");
    print_histogram("opening_ms", &counts.opening);
    printf("}\n");
}

/* The condition that a command waits for; meanwhile nothing is read from standard input. */
static struct {
    enum { NOTHING, OPENED, DELIVERED, ALL_ENDED } kind;
    uint64_t number, since, until;
} awaited;

static bool run_command(char *line) {
    unsigned long a = 0, b = 0;
    uint64_t now = now_ns();
    if (sscanf(line, "open %lu", &a) == 1) {
        if (stream_count + a > stream_room) {
            fprintf(stderr, "client: more than %zu streams\n", stream_room);
            exit(1);
        }
        to_open = a;
        awaited.kind = OPENED;
        awaited.since = now;
    } else if (sscanf(line, "wait %lu %lu", &a, &b) == 2) {
        awaited.kind = DELIVERED;
        awaited.number = a;
        awaited.until = now + b * 1000000;
    } else if (sscanf(line, "ended %lu", &a) == 1) {
        awaited.kind = ALL_ENDED;
        awaited.until = now + a * 1000000;
    } else if (sscanf(line, "stats %lu %lu", &a, &b) == 2) {
        print_stats(a, b);
    } else if (!strncmp(line, "clear", 5)) {
        memset(&counts, 0, sizeof counts);
        packets_before = count_packets();
        printf("{}\n");
    } else if (!strncmp(line, "quit", 4)) {
        return false;
    } else {
        fprintf(stderr, "client: unknown command: %s\n", line);
        exit(1);
    }
    fflush(stdout);
    return true;
}

static void answer_when_due(void) {
    uint64_t now = now_ns();
    switch (awaited.kind) {
    case OPENED:
        if (to_open || opening)
            return;
        printf("{\"open\": %zu, \"failed\": %zu, \"seconds\": %.4f}\n", open_now, failed,
               (double)(now - awaited.since) / 1e9);
        break;
    case DELIVERED:
        if (counts.delivered < awaited.number && now < awaited.until)
            return;
        printf("{\"delivered\": %lu}\n", counts.delivered);
        break;
    case ALL_ENDED:
        if (open_now && now < awaited.until)
            return;
        printf("{\"open\": %zu}\n", open_now);
        break;
    case NOTHING:
        return;
    }
    awaited.kind = NOTHING;
    fflush(stdout);
}

static void run_streams(void) {
    static Partial input;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    stream_room = files.rlim_cur - 16;
    streams = calloc(stream_room, sizeof *streams);
    struct epoll_event events[BATCH], own = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &own);
    for (;;) {
        while (to_open && opening < window)
            start_stream();
        answer_when_due();
        char *end;
        while (awaited.kind == NOTHING && input.length && (end = memchr(input.data, '\n', input.length))) {
            *end = 0;
            if (!run_command(input.data))
                return;
            input.length -= (uint32_t)(end + 1 - input.data);
            memmove(input.data, end + 1, input.length + 1);
        }
        int count = epoll_wait(poller, events, BATCH, awaited.kind ? 20 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                serve_stream(events[i].data.ptr, events[i].events);
                continue;
            }
            char line[4096];
            ssize_t got = read(0, line, sizeof line);
            if (got <= 0)
                return;
            append(&input, line, (size_t)got);
        }
    }
}

/* Requests */

typedef struct {
    int fd;
    bool is_connected, is_busy, is_closed;
    uint64_t sent_at, due;
    int64_t highest;
    size_t sent;
    Partial request, answer;
} Connection;

static Histogram answers, deliveries;
static uint64_t statuses[600], asked, answered, lost, answer_bytes, numbers, count_max = UINT64_MAX;
static const char *method, *path, *body = "";
static double seconds = 10;
static uint64_t pause_ns;

static void append_numbered(Partial *to, const char *text, uint64_t number) {
    const char *hole;
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%lu", number);
    while ((hole = strstr(text, "{n}"))) {
        append(to, text, (size_t)(hole - text));
        append(to, digits, (size_t)size);
        text = hole + 3;
    }
    append(to, text, strlen(text));
}

static void make_request(Connection *c) {
    static Partial content;
    char line[4096];
    uint64_t number = numbers++;
    content.length = c->request.length = 0;
    append_numbered(&content, body, number);
    int size = snprintf(line, sizeof line, "%s %s HTTP/1.1\r\nHost: bench\r\n", method, path);
    append(&c->request, line, (size_t)size);
    append_numbered(&c->request, extra_headers, number);
    if (content.length) {
        size = snprintf(line, sizeof line, "Content-Length: %u\r\n", content.length);
        append(&c->request, line, (size_t)size);
    }
    append(&c->request, "\r\n", 2);
    append(&c->request, content.data, content.length);
}

static void lose(Connection *c) {
    lost += c->is_busy;
    c->is_closed = true;
    close(c->fd);
}

static void push(Connection *c) {
    ssize_t put = send(c->fd, c->request.data + c->sent, c->request.length - c->sent, MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN) {
        lose(c);
        return;
    }
    c->sent += put > 0 ? (size_t)put : 0;
    watch(c->fd, c->sent < c->request.length ? EPOLLOUT : EPOLLIN, c);
}

static void ask(Connection *c) {
    if (asked >= count_max)
        return;
    asked++;
    make_request(c);
    c->sent = 0;
    c->is_busy = true;
    c->answer.length = 0;
    c->sent_at = now_ns();
    push(c);
}

static void count_new(Connection *c, const char *data, const char *end) {
    uint64_t sequence, stamp, now = now_ns();
    int64_t highest = c->highest;
    while ((data = memmem(data, (size_t)(end - data), "@@", 2))) {
        if (find_stamp(data, (size_t)(end - data), &sequence, &stamp) &&
            (int64_t)sequence > c->highest) {
            // Messages from before the first answer do not count.
            if (c->highest >= 0)
                note(&deliveries, now - stamp);
            highest = (int64_t)sequence > highest ? (int64_t)sequence : highest;
        }
        data += 2;
    }
    c->highest = highest < 0 ? 0 : highest;
}

/* Gives true when an answer is complete. */
static bool take_answer(Connection *c) {
    char *end = c->answer.length ? strstr(c->answer.data, "\r\n\r\n") : NULL;
    if (!end)
        return false;
    int status = atoi(c->answer.data + 9);
    *end = 0;
    char *length = strcasestr(c->answer.data, "content-length:");
    *end = '\r';
    bool has_body = status != 304 && status != 204 && strcmp(method, "HEAD");
    size_t size = has_body && length ? strtoul(length + 15, NULL, 10) : 0;
    if (has_body && !length) {
        fprintf(stderr, "client: an answer without a length\n");
        exit(1);
    }
    if (c->answer.length < (size_t)(end + 4 - c->answer.data) + size)
        return false;
    note(&answers, now_ns() - c->sent_at);
    statuses[status >= 0 && status < 600 ? status : 0]++;
    answered++;
    count_new(c, end, c->answer.data + c->answer.length);
    return true;
}

static void serve_connection(Connection *c, uint32_t events) {
    if (!c->is_connected) {
        if (events & (EPOLLERR | EPOLLHUP)) {
            lose(c);
            return;
        }
        c->is_connected = true;
        watch(c->fd, EPOLLIN, c);
        return;
    }
    if (events & EPOLLOUT) {
        push(c);
        return;
    }
    ssize_t got = recv(c->fd, read_buffer, READ_BYTES - 1, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lose(c);
        return;
    }
    answer_bytes += (uint64_t)got;
    append(&c->answer, read_buffer, (size_t)got);
    if (c->is_busy && take_answer(c)) {
        c->is_busy = false;
        if (c->answer.size > 4096)
            drop(&c->answer);
        c->due = now_ns() + pause_ns;
    }
}

static void run_requests(size_t connection_count) {
    Connection *all = calloc(connection_count, sizeof *all);
    struct epoll_event events[BATCH];
    for (size_t i = 0; i < connection_count; i++)
        all[i].fd = connect_to_server(&all[i]), all[i].highest = -1;
    size_t connected = 0;
    while (connected < connection_count) {
        int count = epoll_wait(poller, events, BATCH, 10000);
        if (count <= 0)
            break;
        for (int i = 0; i < count; i++)
            serve_connection(events[i].data.ptr, events[i].events), connected++;
    }
    // Idle clients wait in this ring, in the order of their next request.
    Connection **ring = calloc(connection_count, sizeof *ring);
    size_t first = 0, resting = 0;
    uint64_t start = now_ns(), stop = start + (uint64_t)(seconds * 1e9);
    for (size_t i = 0; i < connection_count; i++) {
        all[i].due = start + pause_ns * i / connection_count;
        ring[resting++] = &all[i];
    }
    while (answered + lost < count_max && now_ns() < stop) {
        while (resting && ring[first]->due <= now_ns()) {
            Connection *c = ring[first];
            first = (first + 1) % connection_count;
            resting--;
            if (!c->is_closed)
                ask(c);
        }
        int timeout = 20;
        if (resting) {
            uint64_t now = now_ns(), due = ring[first]->due;
            timeout = due > now ? (int)((due - now) / 1000000) : 0;
            timeout = timeout > 20 ? 20 : timeout;
        }
        int count = epoll_wait(poller, events, BATCH, timeout);
        for (int i = 0; i < count; i++) {
            Connection *c = events[i].data.ptr;
            bool was_busy = c->is_busy;
            serve_connection(c, events[i].events);
            if (was_busy && !c->is_busy && !c->is_closed) {
                ring[(first + resting) % connection_count] = c;
                resting++;
            }
        }
    }
    printf("{\"connections\": %zu, \"asked\": %lu, \"answered\": %lu, \"lost\": %lu, "
           "\"bytes\": %lu, \"seconds\": %.4f, \"statuses\": {",
           connection_count, asked, answered, lost, answer_bytes, (double)(now_ns() - start) / 1e9);
    const char *comma = "";
    for (int i = 0; i < 600; i++)
        if (statuses[i]) {
            printf("%s\"%d\": %lu", comma, i, statuses[i]);
            comma = ", ";
        }
    printf("}, ");
    print_histogram("answer_ms", &answers);
    printf(", ");
    print_histogram("latency_ms", &deliveries);
    printf("}\n");
}

int main(int argc, char **argv) {
    size_t connection_count = 1;
    bool is_stream = argc > 1 && !strcmp(argv[1], "stream");
    int i = is_stream ? 5 : 6;
    if (argc < i) {
        fprintf(stderr, "usage: client stream HOST PORT PATH | request HOST PORT METHOD PATH\n");
        return 2;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(argv[3]));
    if (inet_pton(AF_INET, argv[2], &server.sin_addr) != 1) {
        fprintf(stderr, "client: HOST is an IPv4 address\n");
        return 2;
    }
    method = is_stream ? "GET" : argv[4];
    path = argv[i - 1];
    for (; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (!strcmp(argv[i], "--header")) {
            size_t used = strlen(extra_headers);
            snprintf(extra_headers + used, sizeof extra_headers - used, "%s\r\n", value);
        } else if (!strcmp(argv[i], "--events"))
            max_events = strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--window"))
            window = strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--connections"))
            connection_count = strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--count"))
            count_max = strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--seconds"))
            seconds = atof(value);
        else if (!strcmp(argv[i], "--pause"))
            pause_ns = (uint64_t)(atof(value) * 1e6);
        else if (!strcmp(argv[i], "--body"))
            body = value;
        else {
            fprintf(stderr, "client: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    if (is_stream) {
        snprintf(stream_request, sizeof stream_request,
                 "GET %s HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n%s\r\n", path,
                 extra_headers);
        run_streams();
    } else {
        run_requests(connection_count);
    }
    return 0;
}
