"""Traffic: captures in, requests out, answers matched and compared."""
