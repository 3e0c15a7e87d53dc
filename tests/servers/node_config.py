"""What is in the configuration file of a node whose cluster is on servers of ours."""

import json

from tests.servers.cassandra import DATACENTER, Cassandra
from tests.servers.etcd import Etcd

CONFIG = """\
data_directory = {data}

[links.main]
address = {link}
answer_deadline_ms = {deadline_ms}

[http]
listen = {http}

[journal]
shards = {shards}

[cluster]
name = {name}
node = {node}
pan_key_file = {key}

[cluster.etcd]
endpoints = {endpoints}
lease_ttl_s = {lease}

[cluster.cassandra]
contact_points = {contact_points}
keyspace = {keyspace}
replication = {{ {datacenter} = {copies} }}

[cluster.peer]
listen = {peer}
"""
CERTIFICATES = """\
cert = {cert}
key = {cert}
ca = {ca}
"""


def node_config(cassandra: Cassandra, etcd: Etcd, **others: object) -> str:
    """`others` are what the servers do not say, and replace what they do. Nodes have
    certificates where it names one."""
    values = {
        "endpoints": etcd.endpoints,
        "contact_points": cassandra.addresses,
        "datacenter": DATACENTER,
        "copies": cassandra.replication,
    } | others
    text = CONFIG + CERTIFICATES if "cert" in others else CONFIG
    # JSON's strings, numbers and lists are TOML's.
    return text.format(
        **{name: json.dumps(value, default=str) for name, value in values.items()}
    )
