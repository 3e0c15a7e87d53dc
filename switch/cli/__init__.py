"""Arguments in, configuration out, one call: a module per command.

Rule 1: a command module imports nothing heavy at its top (`add` runs for every
command; `run` imports what it needs), so that `switch version` starts at once.
Rule 2: a command fails by raising `CommandError`, never by printing and returning.
Rule 3: results go to standard output, everything else to standard error.
"""
