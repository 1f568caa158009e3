/*
 * A stand-in for buildkitd: takes the options of it that sluice gives, listens, and does what it is asked to on each
 * connection: one line, an answer, the end. Static, since the daemon's namespaces have what the host has and no more.
 *
 *	look PATH          "yes" when it is there         list PATH     its names
 *	write PATH         makes an empty file            mount PATH    a tmpfs there
 *	connect IP PORT    "yes", or the error            file PATH     what it holds
 *	fork               a child that stays; it keeps the connection open, so its end is seen
 *	die                as by kill -9                  whoami        pid, and how many processes there are
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PREFIX_ADDRESS "--addr=unix://"
#define PREFIX_GROUP   "--group="
#define PATIENCE_S     5

static void answer(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		exit(1);
}

static void do_list(int fd, const char *path)
{
	DIR *entries = opendir(path);
	struct dirent *entry;

	while (entries && (entry = readdir(entries))) {
		answer(fd, entry->d_name);
		answer(fd, "\n");
	}
	if (entries)
		closedir(entries);
}

static void do_file(int fd, const char *path)
{
	char text[65536];
	int file = open(path, O_RDONLY);
	ssize_t size;

	while (file >= 0 && (size = read(file, text, sizeof(text))) > 0)
		if (write(fd, text, (size_t)size) < 0)
			exit(1);
	if (file >= 0)
		close(file);
}

static void do_connect(int fd, const char *ip, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int other = socket(AF_INET, SOCK_STREAM, 0);
	char byte;

	inet_pton(AF_INET, ip, &address.sin_addr);
	setsockopt(other, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(other, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	/* A byte, since the way out may take a connection before it knows whether there is anybody. */
	if (connect(other, (struct sockaddr *)&address, sizeof(address)) || read(other, &byte, 1) != 1)
		answer(fd, errno ? strerror(errno) : "closed");
	else
		answer(fd, "yes");
	close(other);
}

static void do_whoami(int fd)
{
	DIR *entries = opendir("/proc");
	struct dirent *entry;
	char text[64];
	int count = 0;

	while (entries && (entry = readdir(entries)))
		count += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
	if (entries)
		closedir(entries);
	snprintf(text, sizeof(text), "%d %d", (int)getppid(), count);
	answer(fd, text);
}

static void do_command(int fd, char *line)
{
	char *argument = strchr(line, ' '), *second;
	int made;

	line[strcspn(line, "\n")] = 0;
	if (argument)
		*argument++ = 0;
	second = argument ? strchr(argument, ' ') : NULL;
	if (second)
		*second++ = 0;
	errno = 0;
	if (strcmp(line, "look") == 0) {
		answer(fd, access(argument, F_OK) == 0 ? "yes" : "no");
	} else if (strcmp(line, "list") == 0) {
		do_list(fd, argument);
	} else if (strcmp(line, "file") == 0) {
		do_file(fd, argument);
	} else if (strcmp(line, "write") == 0) {
		made = open(argument, O_CREAT | O_WRONLY, 0600);
		answer(fd, made >= 0 ? "yes" : strerror(errno));
		close(made);
	} else if (strcmp(line, "mount") == 0) {
		mkdir(argument, 0700);
		answer(fd, mount("left", argument, "tmpfs", 0, NULL) == 0 ? "yes" : strerror(errno));
	} else if (strcmp(line, "connect") == 0) {
		do_connect(fd, argument, atoi(second));
	} else if (strcmp(line, "whoami") == 0) {
		do_whoami(fd);
	} else if (strcmp(line, "die") == 0) {
		kill(getpid(), SIGKILL);
	} else if (strcmp(line, "fork") == 0 && fork() == 0) {
		answer(fd, "here");
		for (;;)
			pause();
	}
}

static int listen_at(const char *path, unsigned group)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || chown(path, 0, group) || chmod(path, 0660) || listen(fd, 16)) {
		fprintf(stderr, "stand-in: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	const char *path = NULL;
	unsigned group = 0;
	int fd, client;

	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], PREFIX_ADDRESS, strlen(PREFIX_ADDRESS)) == 0)
			path = argv[i] + strlen(PREFIX_ADDRESS);
		if (strncmp(argv[i], PREFIX_GROUP, strlen(PREFIX_GROUP)) == 0)
			group = (unsigned)atoi(argv[i] + strlen(PREFIX_GROUP));
	}
	if (!path) {
		printf("stand-in 1.0\n");
		return 0;
	}
	fprintf(stderr, "stand-in listens\n");
	fd = listen_at(path, group);
	signal(SIGCHLD, SIG_IGN);
	while ((client = accept(fd, NULL, NULL)) >= 0) {
		char line[512];
		ssize_t size = read(client, line, sizeof(line) - 1);

		if (size > 0) {
			line[size] = 0;
			do_command(client, line);
		}
		close(client);
	}
	return 1;
}
