"""A campaign goes out once; its id cannot stand for another one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from billing.common import Problem
from billing.notify.campaigns import Campaigns


class CampaignTable:
    """A database that knows how many recipients each campaign went to, and how many notices were kept."""

    def __init__(self) -> None:
        self.recipients: dict[str, int] = {}
        self.kept = 0

    async def run(self, work: Any) -> Any:
        return await work(self)

    async def fetchval(self, sql: str, campaign: str, *new: Any) -> Any:
        if not new:
            return self.recipients[campaign]
        if campaign in self.recipients:
            return None
        self.recipients[campaign] = new[-1]
        return campaign

    async def fetch(self, _: str, *columns: Any) -> list[Any]:
        self.kept += len(columns[0])
        return []

    execute = fetch

    def after_commit(self, hook: Any) -> None:
        hook()


class NoDelivery:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def ask(campaigns: Campaigns, recipients: int) -> dict[str, Any]:
    request = make_mocked_request(
        "POST", f"/campaigns/spring?recipients={recipients}", match_info={"id": "spring"}
    )
    answer: web.Response = asyncio.run(campaigns.start(request))
    assert answer.text is not None
    said: dict[str, Any] = json.loads(answer.text)
    return said


def test_a_campaign_that_is_asked_for_again_goes_out_once() -> None:
    table, delivery = CampaignTable(), NoDelivery()
    campaigns = Campaigns(table, delivery)  # type: ignore[arg-type]
    said = {"campaign": "spring", "recipients": 3}
    assert [ask(campaigns, 3), ask(campaigns, 3)] == [said, said]
    assert (table.kept, delivery.woken) == (3, 1)


def test_the_id_of_a_campaign_stands_for_one() -> None:
    campaigns = Campaigns(CampaignTable(), NoDelivery())  # type: ignore[arg-type]
    ask(campaigns, 3)
    with pytest.raises(Problem, match="spring went to 3 recipients, not to 4") as refused:
        ask(campaigns, 4)
    assert refused.value.status == 422
