"""Shared world of the integration tests: one gateway for each module, partners on loopback addresses."""
import os
import random
import socket
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from postseal_lab.ca import CA  # noqa: E402
from postseal_lab.dns import DNS  # noqa: E402
from postseal_lab.gateway import Gateway, mail, wait_for  # noqa: E402
from postseal_lab.sink import Sink  # noqa: E402

CARD = "4111 1111 1111 1111"  # passes Luhn, the well-known test number


class World:
    """CA, DNS stub, gateway, and partner servers that share one port on addresses of their own."""

    def __init__(self, folder, **gateway):
        self.ca = CA(str(folder / "ca"))
        self.dns = DNS()
        # a loopback network of its own: nothing of another world or run can answer in its place
        self.loopback = "127.%d.%d" % (random.randint(16, 250), random.randint(1, 254))
        self.port = self._common_port()
        self.sinks = {}
        self.next_ip = 20
        self.gateway = Gateway(ca=self.ca.path, dns=self.dns, **gateway)

    def _common_port(self):
        with socket.socket() as s:
            s.bind((self.loopback + ".20", 0))
            return s.getsockname()[1]

    def partner(self, domain, *, cert="good", names=None, tls="good", dns=True, **options):
        """A mail server for a domain. cert: good, expired, self-signed, not-yet, none."""
        ip = "%s.%d" % (self.loopback, self.next_ip)
        self.next_ip += 1
        host = "mx." + domain
        pair = (None, None)
        if cert != "none":
            pair = self.ca.issue(domain, names or [host], expired=cert == "expired",
                                 self_signed=cert == "self-signed", not_yet=cert == "not-yet",
                                 kind=options.pop("kind", "ec"))
        sink = Sink(ip, self.port, tls=tls, cert=pair[0], key=pair[1], hostname=host, **options)
        self.sinks[domain] = sink
        if dns:
            self.dns.mail_host(domain, ip, host)
        return sink

    def start(self, files=None, **keys):
        self.gateway.start()
        self.deploy(files, **keys)
        return self

    def deploy(self, files=None, trusted=("127.0.0.1",), protected=("inside.test",), **keys):
        """The usual settings, with changes; each call starts from what is active."""
        all_files = {"routes.conf": "[route default]\ndeliver = mx\nport = %d\n"
                                    "tls = opportunistic\n" % self.port,
                     "groups/ip/trusted.txt": "\n".join(trusted) + "\n",
                     "groups/domain/protected.txt": "\n".join(protected) + "\n"}
        all_files.update(files or {})
        keys.setdefault("dns__servers", self.dns.address)
        keys.setdefault("dns__timeout_ms", 5000)  # the stub may wait for a busy machine
        keys.setdefault("conn__tarpit_ms", 0)
        return self.gateway.settings(all_files, **keys)

    def clear(self):
        for s in self.sinks.values():
            with s.lock:
                s.commands.clear()
                s.mails.clear()
                s.connections = 0

    def drop_all(self):
        """Empties the queue."""
        def empty():
            for m in self.gateway.queue():
                self.gateway.ctl("queue", "drop", m["id"], "--yes", check=False)
            return not self.gateway.queue()
        wait_for(empty, 20, "empty queue")

    def send(self, sender, to, subject, body, **options):
        first = to if isinstance(to, str) else to[0]
        return self.gateway.send(sender, to, mail(sender, first, subject, body), **options)

    def last(self, id, event):
        """Detail of the newest event of a kind; events reach the database a moment after the deed."""
        return self.gateway.wait_event(id, event)[-1]["detail"]

    def close(self):
        self.gateway.close()
        for s in self.sinks.values():
            s.close()
        self.dns.close()


@pytest.fixture(scope="module")
def new_world(tmp_path_factory):
    """Makes worlds that end with the module."""
    worlds = []

    def make(**gateway):
        worlds.append(World(tmp_path_factory.mktemp("lab"), **gateway))
        return worlds[-1]
    yield make
    for w in worlds:
        w.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of the gateway's log."""
    report = (yield).get_result()
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, World):
        report.sections.append(("gateway log", world.gateway.log_text()[-20000:]))
        report.sections.append(("partners", "\n".join(
            "%s: %d connections, mails to %r, commands %r" % (
                d, s.connections, [m.rcpts[:2] for m in s.mails], s.commands[-12:])
            for d, s in world.sinks.items())))
