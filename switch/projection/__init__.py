"""Read models: the journal as rows, for people and for queries."""
