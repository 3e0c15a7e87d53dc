"""Files to import, and what a data directory holds afterwards."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from switch.config import Config, JournalSettings
from switch.embedded import open_store
from switch.imports import import_accounts, import_cards
from switch.keys.port import PanKeys
from switch.ledger import AccountView, dump

ACCOUNTS = "account,currency,balance,credit_limit\n"
CARDS = "pan,account,expiry,status\n"
SHARD_COUNT = 8


def config_of(directory: Path, **settings) -> Config:
    return msgspec.structs.replace(
        Config(
            data_directory=str(directory / "bank"),
            journal=JournalSettings(shards=SHARD_COUNT),
        ),
        **settings,
    )


def no_progress(_done: float, _words: str) -> None:
    pass


def accounts(config: Config, text: str | bytes) -> int:
    return import_accounts(config, written(config, text), no_progress)[0]


def cards(config: Config, text: str | bytes) -> int:
    return import_cards(config, written(config, text), no_progress)[0]


def written(config: Config, text: str | bytes) -> Path:
    file = Path(config.data_directory).parent / "rows.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


class Kept(msgspec.Struct):
    """All that an import may change, as a restart finds it."""

    head: int
    identity: bytes
    released: int
    states: list[bytes]
    key: bytes
    accounts: dict[str, AccountView]
    card_count: int


def kept(config: Config) -> Kept:
    with open_store(config) as store:
        states = store.recovered.states
        return Kept(
            store.journal.head,
            store.journal.identity,
            store.released.number,
            [dump(state) for state in states],
            store.directory.pan_key.read_bytes(),
            {view.account: view for state in states for view in state.accounts()},
            sum(state.card_count for state in states),
        )


def cards_by_pan(
    config: Config, pans: Iterable[str]
) -> dict[str, tuple[str, int, int]]:
    """(account, expiry, status) of each, where it can be found and unsealed."""
    found = {}
    with open_store(config) as store:
        keys: PanKeys = store.keys
        for pan in pans:
            pan_hash = keys.pan_hash(pan.encode())
            for state in store.recovered.states:
                card = state.card(pan_hash)
                if card is not None:
                    assert keys.unseal(card.sealed_pan, pan_hash) == pan.encode()
                    assert card.last_four == pan[-4:]
                    assert state.account(card.account) is not None
                    assert pan not in found, "in two shards"
                    found[pan] = (card.account, card.expiry, card.status)
    return found
