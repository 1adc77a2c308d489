/* Open-loop load: events arrive on schedule, whether or not earlier ones are answered.
 *
 *   arrivals HOST PORT PATH KEY PER_SECOND WARM SECONDS
 *
 * Arrivals are a Poisson process. An event's latency begins at its scheduled time, so a slow server
 * does not slow down the load. Without a free connection, an event gets a new one, up to
 * CONNECTIONS; beyond them it waits in a queue. An event is good if its answer's body has "000".
 * The first WARM seconds are not counted.
 *
 * Prints the number of failures and this program's share of a core, then a line for each good event:
 * its scheduled time in Unix time, the delay of this program, and its latency, in seconds.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 512, ANSWER = 16384, REQUEST = 2048 };
static const double PATIENCE = 10.0; /* for unanswered events at the end */

typedef struct {
    double due, late, latency; /* seconds; `due` by the monotonic clock */
} Event;

typedef struct {
    int fd;
    bool connecting, busy;
    Event event;
    char request[REQUEST], answer[ANSWER];
    size_t size, got;
} Caller;

static struct sockaddr_in address = {.sin_family = AF_INET};
static const char *host, *path, *source, *topic, *kind, *status;
static int port, epoll;

static Caller callers[CONNECTIONS];
static Caller *idle[CONNECTIONS]; /* the last one used is used next */
static int opened, idles;

static Event *line; /* events that wait for a connection */
static size_t head, tail;

static Event *answered; /* without the warm-up */
static size_t answers, failures, unanswered;
static double begin; /* earlier events are not counted */

static double clock_now(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void write_request(Caller *caller) {
    static unsigned long number;
    char body[REQUEST / 2];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(body, sizeof body,
        "{\"event_source\":\"%s\",\"event_topic\":\"%s\",\"event_type\":\"%s\","
        "\"event_status\":\"%s\",\"event_key\":\"%s.%s.%s.%s\","
        "\"changes\":[\"%lu-%ld%09ld\",\"id2\"]}",
        source, topic, kind, status, source, topic, kind, status,
        ++number, (long)now.tv_sec, now.tv_nsec);
    caller->size = snprintf(caller->request, sizeof caller->request,
        "POST %s HTTP/1.1\r\nhost: %s:%d\r\ncontent-type: application/json\r\n"
        "content-length: %d\r\n\r\n%s", path, host, port, length, body);
    if (length >= (int)sizeof body || caller->size >= sizeof caller->request) {
        fprintf(stderr, "the path or the key is too long\n");
        exit(1);
    }
}

static void watch(Caller *caller, int how, uint32_t events) {
    struct epoll_event wanted = {.events = events, .data.ptr = caller};
    if (epoll_ctl(epoll, how, caller->fd, &wanted) < 0) die("epoll_ctl");
}

/* The connection has failed, and so has its event. */
static void lose(Caller *caller) {
    if (caller->busy) failures++, unanswered--;
    for (int i = 0; i < idles; i++)
        if (idle[i] == caller) idle[i] = idle[--idles];
    close(caller->fd);
    caller->fd = -1;
    caller->busy = caller->connecting = false;
    opened--;
}

static void push(Caller *caller) {
    ssize_t sent = send(caller->fd, caller->request, caller->size, MSG_NOSIGNAL);
    if (sent != (ssize_t)caller->size) lose(caller); /* so little always fits, unless it is broken */
}

static void give(Caller *caller, Event event) {
    caller->busy = true;
    caller->got = 0;
    caller->event = event;
    write_request(caller);
    if (!caller->connecting) push(caller);
}

static Caller *dial(void) {
    Caller *caller = callers;
    while (caller->fd >= 0) caller++;
    caller->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (caller->fd < 0) die("socket");
    int on = 1;
    setsockopt(caller->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    caller->connecting = true;
    opened++;
    /* epoll reports the result. */
    (void)!connect(caller->fd, (struct sockaddr *)&address, sizeof address);
    watch(caller, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    return caller;
}

static void arrive(double due) {
    Event event = {.due = due, .late = clock_now(CLOCK_MONOTONIC) - due};
    unanswered++;
    if (idles > 0) give(idle[--idles], event);
    else if (opened < CONNECTIONS) give(dial(), event);
    else line[tail++] = event;
}

/* Return the body of a complete answer, otherwise NULL. */
static const char *body_of(Caller *caller) {
    caller->answer[caller->got] = 0;
    char *end = strstr(caller->answer, "\r\n\r\n");
    if (end == NULL) return NULL;
    const char *length = strcasestr(caller->answer, "\r\ncontent-length:");
    size_t size = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
    return caller->got >= (size_t)(end + 4 - caller->answer) + size ? end + 4 : NULL;
}

static void take(Caller *caller, const char *body) {
    caller->busy = false;
    unanswered--;
    caller->event.latency = clock_now(CLOCK_MONOTONIC) - caller->event.due;
    if (strstr(body, "\"000\"") == NULL) failures++;
    else if (caller->event.due >= begin) answered[answers++] = caller->event;
    if (head < tail) give(caller, line[head++]);
    else idle[idles++] = caller;
}

static void hear(Caller *caller) {
    size_t room = ANSWER - 1 - caller->got;
    ssize_t got = recv(caller->fd, caller->answer + caller->got, room, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || !caller->busy) { /* its end, or an unexpected answer */
        lose(caller);
        return;
    }
    caller->got += got;
    const char *body = body_of(caller);
    if (body != NULL) take(caller, body);
    else if (caller->got == ANSWER - 1) lose(caller);
}

/* Give connections to waiting events. */
static void serve_line(void) {
    while (head < tail && opened < CONNECTIONS) give(dial(), line[head++]);
}

/* Wait for answers until then, or handle those that are there. */
static void listen_until(double until) {
    struct epoll_event found[64];
    double left = fmax(0.0, until - clock_now(CLOCK_MONOTONIC));
    struct timespec wait = {.tv_sec = (time_t)left, .tv_nsec = (long)(fmod(left, 1.0) * 1e9)};
    int count = epoll_pwait2(epoll, found, 64, &wait, NULL);
    if (count < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < count; i++) {
        Caller *caller = found[i].data.ptr;
        if (caller->fd < 0) continue;
        if (caller->connecting && found[i].events & (EPOLLERR | EPOLLHUP)) {
            lose(caller);
        } else if (caller->connecting) {
            caller->connecting = false;
            watch(caller, EPOLL_CTL_MOD, EPOLLIN);
            push(caller);
        } else {
            hear(caller);
        }
    }
    serve_line();
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec
        + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void report(double cpu) {
    double unix_time = clock_now(CLOCK_REALTIME) - clock_now(CLOCK_MONOTONIC);
    printf("%zu %.4f\n", failures + unanswered, cpu);
    for (Event *event = answered; event < answered + answers; event++)
        printf("%.6f %.6f %.6f\n", event->due + unix_time, event->late, event->latency);
}

int main(int count, char **words) {
    if (count != 8) {
        fprintf(stderr, "usage: arrivals HOST PORT PATH KEY PER_SECOND WARM SECONDS\n");
        return 2;
    }
    host = words[1], port = atoi(words[2]), path = words[3];
    char *key = words[4];
    source = strsep(&key, "."), topic = strsep(&key, "."), kind = strsep(&key, "."), status = key;
    double per_second = atof(words[5]), warm = atof(words[6]), seconds = atof(words[7]);
    address.sin_port = htons(port);
    if (status == NULL || per_second <= 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "HOST is an address, KEY has four parts, PER_SECOND is more than 0\n");
        return 2;
    }

    size_t most = (size_t)(per_second * (warm + seconds) * 1.5) + 1000;
    line = calloc(most, sizeof *line), answered = calloc(most, sizeof *answered);
    if (line == NULL || answered == NULL) die("calloc");
    for (int i = 0; i < CONNECTIONS; i++) callers[i].fd = -1;
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    /* If permitted, wake exactly on time, and before the targets, which share the core. */
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 2});
    srand48(1);

    double due = clock_now(CLOCK_MONOTONIC), started = due, cpu = cpu_seconds();
    begin = due + warm;
    for (size_t sent = 0; due < begin + seconds && sent < most; ) {
        listen_until(due);
        /* After a late wake-up, all due events are sent. */
        for (; due <= clock_now(CLOCK_MONOTONIC) && sent < most; sent++) {
            arrive(due);
            due += -log(1.0 - drand48()) / per_second;
        }
    }
    cpu = (cpu_seconds() - cpu) / (clock_now(CLOCK_MONOTONIC) - started);
    for (double until = due + PATIENCE; unanswered > 0 && clock_now(CLOCK_MONOTONIC) < until; )
        listen_until(until);
    report(cpu);
    return 0;
}
