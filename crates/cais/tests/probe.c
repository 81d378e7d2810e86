/* What the tests run inside containers where a shell cannot look: system calls, ids, UDP. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void said(const char *name, long result)
{
    printf("%s=%s\n", name, result >= 0 ? "ok" : strerrorname_np(errno));
}

/* Each call is harmless where it is allowed: its arguments are wrong. */
static void calls(void)
{
    said("af_inet", socket(AF_INET, SOCK_STREAM, 0));
    said("af_alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    said("af_vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    said("clone3", syscall(SYS_clone3, 0, 0));
    said("unshare_user", unshare(CLONE_NEWUSER));
    said("unshare_mount", unshare(CLONE_NEWNS));
    said("setns", setns(-1, 0));
    said("mount", syscall(SYS_mount, 0, 0, 0, 0, 0));
    said("fsopen", syscall(SYS_fsopen, 0, 0));
    said("open_tree", syscall(SYS_open_tree, -1, 0, 0));
    said("move_mount", syscall(SYS_move_mount, -1, 0, -1, 0, 0));
    said("pivot_root", syscall(SYS_pivot_root, 0, 0));
    said("keyctl", syscall(SYS_keyctl, 0, 0));
    said("add_key", syscall(SYS_add_key, 0, 0, 0, 0, 0));
    said("bpf", syscall(SYS_bpf, 0, 0, 0));
    said("perf_event_open", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
    said("init_module", syscall(SYS_init_module, 0, 0, 0));
    said("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    said("userfaultfd", syscall(SYS_userfaultfd, -1));
    said("io_uring_setup", syscall(SYS_io_uring_setup, 0, 0));
    said("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
    said("personality", syscall(SYS_personality, 0x40000));
}

static int udp(int port)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (bind(fd, (void *)&address, sizeof address) < 0)
        return 1;
    for (;;) {
        char text[512];
        socklen_t length = sizeof address;
        ssize_t got = recvfrom(fd, text, sizeof text, 0, (void *)&address, &length);
        if (got < 0)
            return 1;
        sendto(fd, text, got, 0, (void *)&address, length);
    }
}

/* Sends a message of this kind to the agent of SSH_AUTH_SOCK; prints what it answers, in hexadecimal. */
static int agent(int kind)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unsigned char message[65536] = {0, 0, 0, 1, (unsigned char)kind};
    const char *path = getenv("SSH_AUTH_SOCK");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, path ? path : "", sizeof address.sun_path - 1);
    if (connect(fd, (void *)&address, sizeof address) || write(fd, message, 5) != 5) {
        perror("agent");
        return 1;
    }
    ssize_t got = read(fd, message, sizeof message);
    for (ssize_t at = 0; at < got; at++)
        printf("%02x", message[at]);
    printf("\n");
    return got <= 0;
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "calls"))
        calls();
    else if (!strcmp(what, "ids"))
        printf("%d %d\n", geteuid(), getegid());
    else if (!strcmp(what, "agent") && count > 2)
        return agent(atoi(words[2]));
    else if (!strcmp(what, "udp") && count > 2)
        return udp(atoi(words[2]));
    else
        return 2;
    return 0;
}
