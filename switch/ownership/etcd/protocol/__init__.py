"""etcd's messages. What is here was made of etcd.proto by `scripts/generate`."""
