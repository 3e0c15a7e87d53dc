"""Processes beside the switch, which read the journal behind it: how they are kept
running, what parent and child say to each other, and how each reads on.

Rule: a companion only reads the journal, never past the released head, and the switch
      waits for none of them.
"""
