"""The verbs of the command line, by what they work on; `cli` puts them into one command."""
