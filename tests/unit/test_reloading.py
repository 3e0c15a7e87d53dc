"""SIGHUP: what is wrong changes nothing, what is right changes the links."""

from __future__ import annotations

import asyncio
import logging

import pytest

from switch.check import load_languages
from switch.clustered import expect_links
from switch.config import ConfigError, load
from switch.link.errors import ListenError
from switch.link.links import Change
from switch.peer.hello import fingerprint
from switch.reloading import Reloading


class Links:
    def __init__(self):
        self.changes = []
        self.fails = False

    async def change(self, settings, languages):
        if self.fails:
            raise ListenError("the address is taken")
        self.changes.append(dict(settings))
        return Change([], sorted(settings), [], [])


def config_of(**flags):
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return load(None, {}, {"links.main.address": "127.0.0.1:0"} | given).config


def prints_of(config):
    return {
        name: fingerprint(codec, dialect, config.links[name].scheme)
        for name, (codec, dialect) in load_languages(config).items()
    }


async def asked(reloading):
    task = asyncio.create_task(reloading.run())
    reloading.ask()
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()


def reload(config, new, check=None, links=None):
    links = Links() if links is None else links

    def loads():
        if isinstance(new, Exception):
            raise new
        return new

    more = () if check is None else (check,)
    asyncio.run(asked(Reloading(config, loads, links, *more)))
    return links.changes


def test_links_change_and_the_rest_is_said(caplog):
    caplog.set_level(logging.INFO)
    new = config_of(links__main__drain_timeout_ms=1, log__level="debug")
    assert reload(config_of(), new) == [new.links]
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in said] == [
        "setting is the same until the next start",
        "configuration read again",
    ]


@pytest.mark.parametrize("how", ["read", "listen", "check"])
def test_what_is_wrong_changes_nothing(caplog, how):
    links = Links()
    links.fails = how == "listen"

    def refuses(config, languages):
        raise ConfigError("links.main: no")

    new = ConfigError("links.main: no") if how == "read" else config_of()
    check = refuses if how == "check" else None
    assert reload(config_of(), new, check, links) == []
    (record,) = caplog.records
    assert "nothing has changed" in record.getMessage()


def test_a_node_keeps_to_the_links_it_began_with():
    config = config_of()
    prints = prints_of(config)
    other = config_of(links__main__drain_timeout_ms=1)
    expect_links(prints, other, load_languages(other))
    for new in (
        config_of(links__main__scheme=7),
        config_of(links__main__spec="iso87-binary"),
        config_of(links__other__address="127.0.0.1:0"),
    ):
        with pytest.raises(ConfigError, match=r"^links\.\w+: .*start it again"):
            expect_links(prints, new, load_languages(new))
