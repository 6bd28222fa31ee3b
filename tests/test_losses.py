"""The database has committed and the answer is lost on its way: nothing is done twice, and nobody is told otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mutoscope import ledger
from mutoscope.schema import open_database
from tests.installation import SKYREELS, Installation
from tests.losing import LosingLine, losing_line
from tests.postgres import Postgres

PRICE = 0.2  # dollars, of 5 s of SkyReels-V3


class Service:
    """A server whose line to the database can be cut, and an account there with its key's bearer."""

    def __init__(self, installation: Installation, line: LosingLine) -> None:
        self.installation = installation
        self.line = line
        key = installation.run("keys", "create", "operator", "--scope", "admin").stdout.strip()
        self.operator = self._bearer(key)
        self.account = self._made("/admin/accounts", name="payer")["id"]
        self.payer = self._bearer(self._made("/keys", name="theirs", account=self.account)["key"])

    def _bearer(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"{self.installation.url}/api/v3", headers=headers, trust_env=False, timeout=30)

    def _made(self, path: str, **asked: str) -> Any:
        return self.operator.post(path, json=asked).json()["data"]

    def credit(self, amount: float, key: str) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return self.operator.post(f"/admin/accounts/{self.account}/credit", json={"amount": amount}, headers=headers)

    def balance(self) -> tuple[float, float]:
        """(available, held)"""
        found = self.payer.get("/account").json()["data"]
        return found["balance"], found["held"]


@pytest.fixture
def service(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    url = postgres.fresh()
    with losing_line(postgres.port) as line:
        through = url.replace(f":{postgres.port}/", f":{line.port}/")
        installation = Installation(tmp_path_factory.mktemp("lost") / "home", workers=0, database_url=through).start()
        service = Service(installation, line)
        yield service
        service.payer.close()
        service.operator.close()
        installation.close()
    with open_database(url) as database, database.snapshot() as connection:
        assert ledger.audit(connection) == []


def test_credit_and_a_task_are_there_once(service: Service, data_uri: str) -> None:
    service.line.lose(1)
    lost = service.credit(PRICE, "invoice 7")
    assert (lost.status_code, service.line.lost) == (503, 1)
    again = service.credit(PRICE, "invoice 7")
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (200, "true")
    assert again.json()["data"]["balance"] == PRICE == service.balance()[0]

    # It pays for one video. What was committed and lost is tried again, and then there is nothing left to pay with.
    service.line.lose(1)
    accepted = service.payer.post(f"/{SKYREELS}", json={"prompt": "a cat", "images": [data_uri]})
    assert service.line.lost == 1
    assert accepted.status_code == 200, accepted.text
    assert service.balance() == (0.0, PRICE)
    task = accepted.json()["data"]
    found = service.payer.get(f"/predictions/{task['id']}/result").json()["data"]
    assert found["status"] == "created"
    (picture,) = found["input"]["images"]
    assert httpx.get(picture, trust_env=False).status_code == 200  # it was not tidied up as a refused one's would be
    assert service.payer.post(f"/{SKYREELS}", json={"prompt": "a cat", "images": [data_uri]}).status_code == 402
