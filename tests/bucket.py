"""An S3 server of the tests' own: moto as a process, spoken to over HTTP like any other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import httpx

from tests.ports import free_port

REGION = "eu-central-1"


class S3Server:
    """One server. `env` is what a process needs to use it; `is_strict`: credentials that it never made are refused."""

    def __init__(self, *, is_strict: bool = False) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.env = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": REGION,
        }
        strict = {"INITIAL_NO_AUTH_ACTION_COUNT": "1"} if is_strict else {}  # the first request makes the bucket
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)],
            env={**os.environ, **strict},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < until, "moto did not start"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.endpoint}/moto-api/", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def make_bucket(self, name: str) -> str:
        """A new bucket; returns the URL of a prefix in it."""
        body = (
            '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        )
        answer = httpx.put(f"{self.endpoint}/{name}", content=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        return f"s3://{name}/some/prefix"

    def names(self, bucket: str, prefix: str) -> list[str]:
        """What is in a bucket below a prefix."""
        answer = httpx.get(f"{self.endpoint}/{bucket}?list-type=2&prefix={prefix}", trust_env=False)
        return [key.removeprefix(prefix) for key in re.findall("<Key>([^<]*)</Key>", answer.text)]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
