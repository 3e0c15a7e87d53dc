"""Between the nodes of a cluster: requests for shards of others, and their answers."""
