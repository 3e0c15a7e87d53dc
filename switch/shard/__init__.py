"""The one writer: admits requests, batches what they decided, releases the replies."""
