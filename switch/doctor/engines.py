"""Kafka and NSQ, where they are configured. The switch answers without them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from switch.config import Config
from switch.doctor.connecting import connected
from switch.doctor.findings import Finding, error, ok
from switch.link.settings import Address
from switch.nsq.connection import Connection
from switch.nsq.errors import NsqError
from switch.publish.kafka import CLIENT_ID, connection_options

ASK_SECONDS: Final = 5.0
_WAITS: Final = "until it is there, events wait in the journal"


async def kafka(config: Config) -> list[Finding]:
    settings = config.publish.kafka
    findings = await asyncio.gather(
        *(
            connected(f"kafka {host}", Address.parse(host), _WAITS)
            for host in settings.bootstrap
        )
    )
    if any(finding.level == "ok" for finding in findings):
        findings.append(await _brokers(config))
    return findings


async def _brokers(config: Config) -> Finding:
    """Whether one takes us, and how many there are."""
    settings = config.publish.kafka
    check = "publish.kafka"
    # It tells the log, beside what it raises.
    logging.getLogger("aiokafka").propagate = False
    try:
        client = AIOKafkaClient(
            **connection_options(settings),
            client_id=CLIENT_ID,
            request_timeout_ms=int(ASK_SECONDS * 1000),
        )
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await client.bootstrap()
            count = len(client.cluster.brokers())
        finally:
            await client.close()
    except (KafkaError, OSError, TimeoutError, ValueError) as fault:
        got = str(fault) or type(fault).__name__
        return error(check, "a broker to take this client", got, _WAITS)
    if settings.replication > count:
        return error(
            f"{check}.replication",
            f"{settings.replication} brokers, for so many copies",
            f"{count}",
            "start the others, or lower it: topics cannot be made",
        )
    return ok(check, f"{count} brokers")


async def nsq(config: Config) -> list[Finding]:
    return list(await asyncio.gather(*map(_nsqd, config.publish.nsq.nsqd)))


async def _nsqd(host: str) -> Finding:
    check = f"nsqd {host}"
    connection = Connection(host)
    try:
        await connection.open(ASK_SECONDS)
    except NsqError as fault:
        advice = "pushes go to the others, or wait in the journal"
        return error(check, "nsqd to answer", str(fault), advice)
    try:
        return ok(check, f"nsqd {connection.limits.version}".rstrip())
    finally:
        await connection.close()
