import asyncio
import contextlib
import datetime

import pytest

from switch.replay.bank import make_bank
from switch.replay.client import Client
from switch.replay.scheme import Scheme

BANK = make_bank(1, datetime.date(2026, 5, 17))


@pytest.fixture
def play(respond):
    """Plays so many exchanges and gives them, and the responder that saw them."""

    def run(count, rule=lambda request, count: "00"):
        responder = respond(rule)
        exchanges = []

        async def playing():
            address = ("127.0.0.1", responder.port)
            async with Client(*address, responder.codec, responder.framing) as client:
                enough = asyncio.Event()

                def take(exchange):
                    exchanges.append(exchange)
                    if len(exchanges) >= count:
                        enough.set()

                scheme = Scheme(client, BANK, per_second=2000, seed=5, on_exchange=take)
                task = asyncio.create_task(scheme.play())
                await asyncio.wait_for(enough.wait(), 20)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                await scheme.sign_off()

        asyncio.run(playing())
        return exchanges, responder

    return run


def test_it_signs_on_and_off_and_plays_every_kind(play):
    exchanges, responder = play(400)
    assert exchanges[0].what == "sign-on"
    assert exchanges[-1].what == "sign-off"
    kinds = {request.mti for request in responder.requests}
    assert kinds >= {"0100", "0101", "0200", "0201", "0120", "0220", "0400", "0420"}
    assert all(exchange.answered for exchange in exchanges)
    assert all(not e.pan or e.pan.startswith("************") for e in exchanges)


def test_a_repeat_is_the_request_again_with_another_type(play):
    exchanges, responder = play(400)
    firsts: dict[tuple[str, ...], tuple[str, dict[int | str, str]]] = {}
    repeats = 0
    for request in responder.requests:
        fields = request.to_dict()
        mti = fields.pop("mti")
        key = fields[7], fields[11], fields[37]
        if mti in ("0101", "0201"):
            assert firsts[key] == (f"{mti[:3]}0", fields)
            repeats += 1
        else:
            assert key not in firsts
            firsts[key] = mti, fields
    assert repeats
    assert [e.same_answer for e in exchanges if e.what == "repeat"] == [True] * repeats


def test_a_repeat_that_is_answered_otherwise_is_told(play):
    def rule(request, count):
        return "05" if request.mti in ("0101", "0201") else "00"

    exchanges, _ = play(200, rule)
    said = {e.same_answer for e in exchanges if e.what == "repeat"}
    assert said == {False}


def test_reversals_and_completions_name_an_approved_original(play):
    _, responder = play(400, lambda request, count: "51" if count % 3 else "00")
    approved = {}
    about = []
    for count, request in enumerate(responder.requests):
        if request.mti in ("0100", "0200") and count % 3 == 0:
            name = request.mti + request[11] + request[7] + "00000123456" + "0" * 11
            approved[name] = request
        elif request.mti in ("0220", "0400", "0420"):
            about.append(request)
    assert len({request[90] for request in about}) == len(about) > 5
    for request in about:
        original = approved[request[90]]
        assert (request[2], request[4]) == (original[2], original[4])
        assert request[11] != original[11]


def test_the_accounts_currency_or_a_billing_amount(play):
    _, responder = play(400)
    currency_of = {card.pan: card.account.currency for card in BANK.cards}
    numbers = {"EUR": "978", "USD": "840", "GBP": "826"}
    foreign = [r for r in responder.requests if 51 in r]
    assert foreign
    for request in foreign:
        assert request[51] == numbers[currency_of[request[2]]] != request[49]
        assert int(request[6]) < int(request[4])
