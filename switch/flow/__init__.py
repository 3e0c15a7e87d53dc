"""Which flow a message takes, and which fields its answer carries."""
