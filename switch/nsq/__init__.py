"""A client for NSQ on asyncio, which outlives every nsqd that it speaks with.

    protocol.py     bytes to frames and commands to bytes, without a socket
    connection.py   one connection to one nsqd, until it ends
    producer.py     messages to some of several nsqd, acknowledged
    consumer.py     messages of a topic from all nsqd that have it
    lookup.py       which these are, as nsqlookupd says

Of the clients that there are for asyncio, one never writes again when its nsqd has
ended, and the other never reads again; and what is said fits on a page. So it is ours.
"""
