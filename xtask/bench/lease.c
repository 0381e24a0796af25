/* What leases are measured against: the same file operations, and flock alone.
 *
 *   lease cycle DIR N   take and give back N times, and print the nanoseconds of each
 *   lease wait FILE     lock FILE, print `holds PID SECONDS`, and keep it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static const char TICKET[] = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6.1.1";
static const char CAME[] =
    "{\"version\":1,\"process\":{\"pid\":4242,\"started\":98765},"
    "\"command\":\"gpupin debug lease-client\",\"came\":1795681513000}\n";
static const char HELD[] = "{\"held\":1795681520000}\n";

static void cycle(int dir) {
    struct stat mine, other;
    int queue = openat(dir, "queue.lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    must(queue >= 0 && fstat(queue, &mine) == 0, "queue.lock");
    must(flock(queue, LOCK_EX | LOCK_NB) == 0, "flock");
    int again = openat(dir, "queue.lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    must(again >= 0 && fstat(again, &other) == 0 && fstat(queue, &mine) == 0, "queue.lock");
    must(mine.st_ino == other.st_ino, "another queue.lock");
    must(flock(again, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "no lock");
    close(again);
    int listed = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fdopendir(listed);
    must(list != NULL, "fdopendir");
    for (struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (strncmp(entry->d_name, "GPU-", 4) == 0)
            must(0, "somebody else's ticket");
    closedir(list);
    int ticket = openat(dir, TICKET, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    must(ticket >= 0 && fchmod(ticket, 0644) == 0, "ticket");
    must(flock(ticket, LOCK_EX | LOCK_NB) == 0, "flock");
    must(write(ticket, CAME, sizeof CAME - 1) == sizeof CAME - 1, "write");
    close(queue);
    must(write(ticket, HELD, sizeof HELD - 1) == sizeof HELD - 1, "write");
    must(unlinkat(dir, TICKET, 0) == 0, "unlink");
    close(ticket);
}

int main(int argc, char **argv) {
    struct timespec start, end;
    if (argc == 4 && strcmp(argv[1], "cycle") == 0) {
        int dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        must(dir >= 0, argv[2]);
        for (int left = atoi(argv[3]); left > 0; left--) {
            clock_gettime(CLOCK_MONOTONIC, &start);
            cycle(dir);
            clock_gettime(CLOCK_MONOTONIC, &end);
            printf("%lld\n", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
        }
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "wait") == 0) {
        int file = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        must(file >= 0 && flock(file, LOCK_EX) == 0, argv[2]);
        clock_gettime(CLOCK_MONOTONIC, &start);
        printf("holds %d %lld.%09ld\n", getpid(), (long long)start.tv_sec, start.tv_nsec);
        fflush(stdout);
        pause();
    }
    return 2;
}
