"""A process that holds a shard and says so, as long as it may rely on it:

python -m tests.unit.ownership.etcd.keeper ENDPOINT CLUSTER SHARD TTL_S

A line is when, by the clock of the machine, and whether it is held.
"""

import asyncio
import sys
import time

from tests.unit.ownership.etcd.real import joined


async def main(endpoint: str, cluster: str, shard: int, ttl_s: int) -> None:
    async with joined([endpoint], cluster, "keeper", ttl_s) as ownership:
        await ownership.acquire(shard)
        while True:
            is_held = ownership.held(shard) is not None
            print(f"{time.monotonic()} {is_held}", flush=True)
            if not is_held:
                return
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    endpoint, cluster, shard, ttl_s = sys.argv[1:]
    asyncio.run(main(endpoint, cluster, int(shard), int(ttl_s)))
