"""A whole cluster on this machine, with traffic: what `scripts/cluster` runs.

layout.py       where it is, and which addresses it has
processes.py    which processes are its own, also after a crash
machines.py     the servers and the nodes, started and stopped in order
traffic.py      a simulated scheme at each node
watching.py     what the nodes and the journal say
view.py         the table
commands.py     up, status, down
"""
