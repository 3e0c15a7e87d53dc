"""The process that hands released events to servers of others: Kafka and their like.

Rule 1: it only reads the journal, and never past the released head.
Rule 2: an engine that is down, or slow, holds up neither the switch nor another engine.
Rule 3: it may be killed at any time; each engine goes on where its position is, and
        what was acknowledged behind that is sent again, with the same ids.
"""
