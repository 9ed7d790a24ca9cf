import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "line",
    [
        "import flask",
        "from redis import Redis",
        "import requests",
        "import os",
        "from os import environ",
        "import asyncio",
        "from socket import socket",
        "import time; time.time()",
        "from time import monotonic",
        "import datetime; datetime.datetime.now(datetime.UTC)",
    ],
)
def test_the_linter_keeps_clocks_and_io_out_of_the_core(line: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "TID251",
        "--stdin-filename",
        "httpcache/x.py",
        "-",
    ]
    found = subprocess.run(command, input=line, capture_output=True, text=True, check=False)
    assert "TID251" in found.stdout, found
