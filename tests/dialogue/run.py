#!/usr/bin/python3
"""Plays the dialogue files (README.md) against an SMTP server over a socket.

    run.py [--as NAME] [--set key=value]... [--only TEXT] [--split] HOST PORT [FILE...]
    run.py --list [--as NAME] [--set key=value]...

--as NAME      prefer lines "S/NAME:" to the "S:" line above them; leave out files with "@skip NAME"
--set k=v      how the server is configured where it differs from the defaults of README.md
--split        send one byte at a time
Ends with 0 when every file that was played passed and at least one was played, else 1.
"""
import argparse
import pathlib
import re
import socket
import ssl
import sys

DEFAULTS = {
    "relay": "no", "tls": "yes", "require-tls": "no", "auth": "yes", "require-auth": "no",
    "implicit-tls": "no", "policy": "no", "max-size": "10485760", "max-session": "0",
    "max-rcpts": "1000", "max-messages": "1000", "max-errors": "20", "max-auth-failures": "3",
}
QUIET = 0.2  # seconds without a byte that count as silence


class Mismatch(Exception):
    pass


class Server:
    def __init__(self, host, port, timeout, split, implicit_tls):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout, self.split, self.data, self.ended = timeout, split, b"", False
        if implicit_tls:
            self.start_tls()

    def start_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.data:
            raise Mismatch(f"bytes before the handshake: {self.data!r}")
        self.sock = context.wrap_socket(self.sock)

    def send(self, data):
        pieces = [data[i:i + 1] for i in range(len(data))] if self.split else [data]
        try:
            for piece in pieces:
                self.sock.sendall(piece)
        except (ConnectionError, ssl.SSLError):
            pass  # closed while we spoke: the next expectation tells whether it might

    def more(self, timeout):
        """One read; False at the end or when nothing came in time."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return False
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.ended = not data
        self.data += data
        return bool(data)

    def reply(self):
        lines = []
        while True:
            line, newline, rest = self.data.partition(b"\n")
            if not newline:
                if not self.more(self.timeout):
                    raise Mismatch("the connection ended" if self.ended else "no reply in time")
                continue
            self.data = rest
            lines.append(line.rstrip(b"\r").decode("latin-1"))
            if lines[-1][3:4] != "-":
                return lines

    def silence(self):
        if self.data or self.more(QUIET):
            raise Mismatch(f"left over: {self.data!r}")

    def end(self):
        while not self.ended:
            if self.data:
                raise Mismatch(f"a reply instead of the end: {self.data!r}")
            if not self.more(self.timeout) and not self.ended:
                raise Mismatch("not closed")


def unescape(text):
    def one(match):
        word = match.group(1)
        if word[0] == "(":
            count, char = word[1:-1].split(" ", 1)
            return char * int(count)
        if word[0] == "x":
            return chr(int(word[1:], 16))
        return {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}[word]

    return re.sub(r"\\(\(\d+ .\)|x[0-9a-f]{2}|[rnt0\\])", one, text)


class Dialogue:
    def __init__(self, path, name):
        self.path, self.needs, self.skip, self.lines = path, {}, [], []
        for number, line in enumerate(path.read_text("latin-1").split("\n"), 1):
            if not line or line.startswith("#"):
                continue
            if line.startswith("@"):
                key, _, value = line[1:].partition(" ")
                if key == "skip":
                    self.skip += value.split()
                else:
                    self.needs[key] = value
            elif match := re.match(r"S/(\w+): (.*)", line):
                if match.group(1) == name:
                    self.lines[-1] = (number, "S: " + match.group(2))
            else:
                self.lines.append((number, line))

    def why_not(self, name, config, split):
        if name in self.skip:
            return f"makes no sense with {name}"
        if split and self.needs.get("whole") == "yes":
            return "must be sent whole"
        for key, value in self.needs.items():
            if key != "whole" and config[key] != value:
                return f"needs {key} {value}"
        for key in ("require-tls", "require-auth", "implicit-tls"):
            if config[key] == "yes" and self.needs.get(key) != "yes":
                return f"the server has {key}"
        return None

    def play(self, server):
        pending, last = "", []
        for number, line in self.lines + [(0, "end")]:
            try:
                if line.startswith("C:"):
                    pending += line[2:].removeprefix(" ") + "\r\n"
                    continue
                if line.startswith("R: "):
                    pending += unescape(line[3:])
                    continue
                if pending:
                    server.send(pending.encode("latin-1"))
                    pending = ""
                last = self.expect(server, line, last)
            except Mismatch as problem:
                raise Mismatch(f"{self.path.name}:{number}: {line}: {problem}") from None

    @staticmethod
    def expect(server, line, last):
        texts = [text[4:].lower() for text in last]
        if line.startswith("S: "):
            last = server.reply()
            if last[0][:3] != line[3:6] or not last[0][4:].startswith(line[7:]):
                raise Mismatch(f"got {last}")
        elif line.startswith("S has: "):
            if not any(text.startswith(line[7:].lower()) for text in texts):
                raise Mismatch(f"got {last}")
        elif line.startswith("S lacks: "):
            if any(text.startswith(line[9:].lower()) for text in texts):
                raise Mismatch(f"got {last}")
        elif line == "tls":
            server.start_tls()
        elif line == "hangup":
            server.end()
        elif line == "end":
            if not server.ended:
                server.silence()
        elif not line.startswith("messages "):
            raise Mismatch("what is this")
        return last


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--as", dest="name", default="postseal")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--only", default="", help="only files whose name contains this")
    parser.add_argument("--timeout", type=float, default=15)
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("host", nargs="?")
    parser.add_argument("port", nargs="?", type=int)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    if not args.list and args.port is None:
        parser.error("HOST and PORT are needed")
    args.config = DEFAULTS | dict(item.split("=", 1) for item in args.settings)
    if unknown := set(args.config) - set(DEFAULTS):
        parser.error(f"unknown settings: {sorted(unknown)}")
    return args


def main():
    args = arguments()
    files = args.files or sorted(pathlib.Path(__file__).parent.glob("*.smtp"))
    passed = failed = left_out = 0
    for path in files:
        if args.only not in path.name:
            continue
        dialogue = Dialogue(path, args.name)
        reason = dialogue.why_not(args.name, args.config, args.split)
        if reason or args.list:
            print(f"{'left out' if reason else 'play':9} {path.name}{': ' + reason if reason else ''}")
            left_out += bool(reason)
            continue
        try:
            server = Server(args.host, args.port, args.timeout, args.split,
                            args.config["implicit-tls"] == "yes")
            dialogue.play(server)
            server.sock.close()
            passed += 1
            print(f"{'passed':9} {path.name}")
        except (Mismatch, OSError) as problem:
            failed += 1
            print(f"{'FAILED':9} {path.name}: {problem}")
    print(f"{passed} passed, {failed} failed, {left_out} left out")
    return 1 if failed or (not passed and not args.list) else 0


if __name__ == "__main__":
    sys.exit(main())
