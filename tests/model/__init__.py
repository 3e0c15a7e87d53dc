"""Models of protocols, checked exhaustively: `python -m tests.model.check`."""
