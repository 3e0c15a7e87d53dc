"""A node of a cluster: what it owns, takes over and gives up."""
