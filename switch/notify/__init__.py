"""From NSQ to a webhook: each push is posted over HTTP, signed, until it is taken."""
