"""Administration: what operators do to accounts and cards, and look up, over HTTP."""
