/*
 * completion: what a shell may offer behind each word, read from the tables of commands and options, and the scripts that are
 * made of it. What a value or an operand is shows from its kind and from the word that stands for it in help: FILE and PATH,
 * DIR and STORE, COMMAND; words in small letters stand for themselves.
 */
#pragma once

#include <stdio.h>

#include "gateway/cmd/command.h"
#include "gateway/cmd/options.h"
#include "proto/span.h"

enum completion_kind {
	COMPLETION_NONE,                 /* nothing to offer: a name, a number, a root */
	COMPLETION_WORDS,                /* one of `words` */
	COMPLETION_FILE,
	COMPLETION_DIRECTORY,
	COMPLETION_COMMAND,              /* the name of a command of ours */
};

enum { COMPLETION_WORDS_MAX = 32 };

struct completion {
	enum completion_kind kind;
	struct span title;               /* the word of help: "ROOT" */
	struct span words[COMPLETION_WORDS_MAX];         /* borrowed from the tables, as title */
	size_t count;
};

/* What comes behind an option that is no flag. */
struct completion completion_of_option(const struct option *option);

/* The next one of the operands that `*text` begins with ("[DIR] -- COMMAND"). False: there is none before `--` and the end. */
bool completion_next_operand(const char **text, struct completion *operand);

/* Whether a command of somebody else's follows behind `--`. */
bool completion_has_rest(const struct command *command);

typedef void completion_visit(void *context, const struct option *option);

/* Calls `visit` with each option of a command, those that all have last. */
void completion_each_option(const struct command *command, completion_visit *visit, void *context);

/* Names of our commands, or the words to be offered, with blanks between. */
void completion_put_commands(FILE *file);
void completion_put_words(FILE *file, const struct completion *completion);

/* The scripts, one file each. */
void completion_print_bash(FILE *file);
void completion_print_fish(FILE *file);
void completion_print_zsh(FILE *file);
