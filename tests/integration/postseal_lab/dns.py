"""A DNS stub on loopback: MX, A, AAAA, PTR, TXT from a dictionary; SERVFAIL and silence on demand."""
import socket
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class DNS:
    """records: {("example.com", "MX"): ["10 mx1.example.com."], ...}; names end without a dot."""

    def __init__(self, records=None, ip="127.0.0.1", ttl=1):
        self.records = dict(records or {})
        self.servfail = set()
        self.silent = set()
        self.queries = []
        self.ttl = ttl
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((ip, 0))
        self.address = "%s:%d" % self.sock.getsockname()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def mail_host(self, domain, ip, host=None, preference=10):
        """Domain with one mail host at an address."""
        host = host or "mx." + domain
        self.records[(domain, "MX")] = self.records.get((domain, "MX"), []) + \
            ["%d %s." % (preference, host)]
        self.records[(host, "A")] = [ip]
        return host

    def _answer(self, query):
        q = query.question[0]
        name = q.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(q.rdtype)
        self.queries.append((name, kind))
        if name in self.silent:
            return None
        r = dns.message.make_response(query)
        r.flags |= dns.flags.RA
        if name in self.servfail:
            r.set_rcode(dns.rcode.SERVFAIL)
            return r
        data = self.records.get((name, kind))
        if data:
            r.answer.append(dns.rrset.from_text(q.name, self.ttl, dns.rdataclass.IN, kind, *data))
        elif not any(n == name for n, _ in self.records):
            r.set_rcode(dns.rcode.NXDOMAIN)
        return r

    def _run(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            try:
                reply = self._answer(dns.message.from_wire(data))
                if reply is not None:
                    self.sock.sendto(reply.to_wire(), peer)
            except Exception:  # garbage in a test is answered by silence
                continue

    def close(self):
        self.sock.close()
