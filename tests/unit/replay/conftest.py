from tests.unit.replay.responder import cards_file, respond

__all__ = ["cards_file", "respond"]
