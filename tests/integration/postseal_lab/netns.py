"""Two private network namespaces joined by a veth pair: a gateway's side and a client's side.

Who enters a namespace does so with his thread only; sockets and processes made meanwhile stay in it.
"""
import contextlib
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=10)


class NetPair:
    """gateway: addresses of the gateway's end, client: of the other end ("192.0.2.1/24", ...)."""

    def __init__(self, gateway, client):
        self.names = {"gateway": "psg%d" % os.getpid(), "client": "psc%d" % os.getpid()}
        veth = {"gateway": "veth-g", "client": "veth-c"}
        self.own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            for name in self.names.values():
                _ip("netns", "add", name)
            _ip("-n", self.names["gateway"], "link", "add", veth["gateway"], "type", "veth",
                "peer", "name", veth["client"], "netns", self.names["client"])
            for side, addresses in (("gateway", gateway), ("client", client)):
                ns = self.names[side]
                _ip("-n", ns, "link", "set", "lo", "up")
                _ip("-n", ns, "link", "set", veth[side], "up")
                for a in addresses:
                    _ip("-n", ns, "addr", "add", a, "dev", veth[side],
                        *(["nodad"] if ":" in a else []))
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def inside(self, side):
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open("/run/netns/" + self.names[side], os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(before)
            os.close(before)
            os.close(there)

    def close(self):
        _setns(self.own)
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True,
                           timeout=10)
        os.close(self.own)
