import socket

import requests
from local.services import ApiRest


def ask(service: ApiRest, path: str, **headers: str) -> socket.socket:
    """Send a GET; who asked has read nothing yet, and may leave at any time."""
    connection = socket.create_connection((service.host, service.port), timeout=10)
    head = [f"GET {path} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


class Client:
    """GETs of the service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **options: object) -> requests.Response:
        return self.request("GET", path, **options)

    def request(self, method: str, path: str, **options: object) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=20, **options)
