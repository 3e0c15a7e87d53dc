"""What is wrong with everything around the process: `switch doctor`.

findings.py       what a look finds
machine.py        files, disks, addresses, descriptors, the clock
certificates.py   how long they are good for
cassandra.py      contact points, nodes, keyspace, tables, a trial write
etcd.py           members, alarms, who is there, who owns what
greeting.py       what a node says to whoever connects
engines.py        Kafka, nsqd
examination.py    all of it, in order
"""
