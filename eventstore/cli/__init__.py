"""The command line: one file per verb, each thin. Data goes to stdout, talk to stderr."""
