/* Answers every connection with one page. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void leave(int number) {
    (void)number;
    _exit(0);
}

int main(int count, char **arguments) {
    static const char page[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nC says hello\n";
    char request[4096];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(arguments[1]) : 8080)};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    signal(SIGTERM, leave);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        perror("server");
        return 1;
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        if (read(client, request, sizeof request) > 0 && write(client, page, strlen(page)) < 0)
            perror("write");
        close(client);
    }
}
