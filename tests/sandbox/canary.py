"""A process of the host with sockets, ports and memory that nobody in a sandbox may come near.

usage: canary.py DIRECTORY MARK   (prints where everything is as JSON, answers each line with how often somebody came so
far, lives until its standard input ends)
"""
import ctypes, json, os, selectors, socket, sys

directory, mark = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
sockets, about = [], {"pid": os.getpid()}


def listen(family, address, kind=socket.SOCK_STREAM):
    sock = socket.socket(family, kind)
    sock.bind(address)
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    sockets.append(sock)
    return sock


about["stream"] = f"{directory}/stream"
listen(socket.AF_UNIX, about["stream"])
# bound through a link: /proc/net/unix shows the name as it was given
os.mkdir(f"{directory}/real")
os.symlink("real", f"{directory}/link")
about["linked"] = f"{directory}/link/socket"
listen(socket.AF_UNIX, about["linked"])
about["datagram"] = f"{directory}/datagram"
listen(socket.AF_UNIX, about["datagram"], socket.SOCK_DGRAM)
about["abstract"] = f"lifeboat-canary-{os.getpid()}"
listen(socket.AF_UNIX, "\0" + about["abstract"])
about["pipe"] = f"{directory}/pipe"
os.mkfifo(about["pipe"], 0o622)
pipe = os.open(about["pipe"], os.O_RDWR)
about["port"] = listen(socket.AF_INET, ("0.0.0.0", 0)).getsockname()[1]
try:
    about["port6"] = listen(socket.AF_INET6, ("::1", 0)).getsockname()[1]
except OSError:
    about["port6"] = None
try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        about["address"] = probe.getsockname()[0]
except OSError:
    about["address"] = None
about["shared_key"] = 0x11FE0000 | os.getpid() & 0xFFFF
segment = libc.shmget(about["shared_key"], 4096, 0o1666)
about["shared_memory"] = f"/dev/shm/lifeboat-canary-{os.getpid()}"
with open(about["shared_memory"], "w") as file:
    file.write("canary")
print(json.dumps(about), flush=True)

came = 0
selector = selectors.DefaultSelector()
for sock in sockets:
    sock.setblocking(False)
    selector.register(sock, selectors.EVENT_READ, "canary")
selector.register(0, selectors.EVENT_READ, "end")
alive = True
while alive:
    for key, _ in selector.select():
        if key.data == "end":
            alive = os.read(0, 1) != b""
            if alive:
                print(came, flush=True)
        elif key.fileobj.type == socket.SOCK_DGRAM:
            key.fileobj.recv(64)
            came += 1
        else:
            key.fileobj.accept()[0].close()
            came += 1
os.unlink(about["shared_memory"])
libc.shmctl(segment, 0, None)
