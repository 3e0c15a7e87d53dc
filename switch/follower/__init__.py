"""The process behind the switch: publishes and projects what has been answered.

Rule 1: it only reads the journal, and never past the released head.
Rule 2: it is apart so that it takes neither the interpreter nor a core from deciding:
        it runs at a lower priority, and the switch does not wait for it.
Rule 3: it may be killed at any time; it goes on where its sinks say they are.
"""
