"""Attempts to get out of a sandbox. Each is a function that gives what it got hold of, or None.

usage: probes.py inside|outside   (the canaries as JSON in PROBES)

Inside, every attempt must fail. Outside only those marked `control` run: they are harmless on a host, and there they must
succeed, or they would prove nothing. One JSON line each: name, seen (null: nothing), why.
"""
import ctypes, errno, fcntl, glob, json, os, pty, signal, socket, stat, struct, sys, time

CANARY = json.loads(os.environ["PROBES"])
LIBC = ctypes.CDLL(None, use_errno=True)
PROBES = []
X86 = os.uname().machine == "x86_64"
NUMBERS = {  # x86_64, aarch64
    "ptrace": (101, 117), "syslog": (103, 116), "pivot_root": (155, 41), "acct": (163, 89), "swapon": (167, 224),
    "reboot": (169, 142), "iopl": (172, None), "init_module": (175, 105), "delete_module": (176, 106),
    "quotactl": (179, 60), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "unshare": (272, 97), "perf_event_open": (298, 241), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "setns": (308, 268), "process_vm_readv": (310, 270), "finit_module": (313, 273),
    "bpf": (321, 280), "userfaultfd": (323, 282), "kexec_load": (246, 104), "io_uring_setup": (425, 425),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432), "fspick": (433, 433),
    "pidfd_open": (434, 434), "clone3": (435, 435), "pidfd_getfd": (438, 438), "mount_setattr": (442, 442),
    "clone": (56, 220), "mount": (165, 40), "umount2": (166, 39), "clock_settime": (227, 112), "chroot": (161, 51),
}
NEWUSER, NEWNS, NEWNET, NEWPID = 0x10000000, 0x20000, 0x40000000, 0x20000000
REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def probe(function=None, *, control=False):
    def add(function):
        PROBES.append((function.__name__, control, function))
        return function
    return add(function) if function else add


def call(name, *args):
    """A system call: its result, or an error."""
    number = NUMBERS[name][0 if X86 else 1]
    if number is None:
        raise OSError(errno.ENOSYS, "not on this architecture")
    args = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = LIBC.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), name + ": " + os.strerror(ctypes.get_errno()))
    return result


def reached(name, *args):
    """A system call with arguments that it cannot use: that it says so shows that nothing stopped it before."""
    try:
        return f"{name} gave {call(name, *args)}"
    except OSError as error:
        if error.errno in REFUSED:
            raise
        return f"{name} was reached: {error.strerror}"


def read(path, size=4096):
    with open(path, "rb") as file:
        return file.read(size)


def attempts(paths, action):
    """What the first success gives; the last error if there is none."""
    last = None
    for path in paths:
        try:
            found = action(path)
            if found:
                return f"{path}: {found}"
        except OSError as error:
            last = error
    if last:
        raise last


def applied(way):
    action, path = way
    return action(path)


def opened_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))
    return "open for writing"


def created_in(directory):
    path = os.path.join(directory, ".probe")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)
    return "a file was made"


# ---- files

@probe(control=True)
def make_a_file_beside_production():
    return created_in(CANARY["directory"])


@probe(control=True)
def change_a_file_of_production():
    return opened_for_writing(CANARY["file"])


@probe(control=True)
def change_a_mode_of_production():
    os.chmod(CANARY["file"], 0o640)
    return "chmod"


@probe(control=True)
def link_to_a_file_of_production():
    name = CANARY["file"] + ".link"
    os.link(CANARY["file"], name)
    os.unlink(name)
    return "link"


@probe(control=True)
def see_production_at_its_path():
    text = read(os.path.join(CANARY["app"], "who")).decode()
    return text if text != "restored" else None


@probe(control=True)
def read_what_is_hidden():
    return attempts(CANARY["hidden"], lambda path: read(path) or os.listdir(path))


@probe(control=True)
def read_a_temporary_file_of_the_host():
    return attempts(CANARY["temporary"], read)


@probe(control=True)
def read_shared_memory_of_the_host():
    return read(CANARY["shared_memory"])


@probe(control=CANARY["root"])
def read_password_hashes():
    return read("/etc/shadow")


@probe(control=CANARY["root"])
def read_a_file_of_somebody_else():
    return CANARY["foreign"] and read(CANARY["foreign"])


@probe
def write_in_the_system():
    return attempts(["/", "/etc", "/usr", "/usr/bin", "/boot", "/root", "/var", "/var/lib", "/home", "/opt", "/srv"], created_in)


@probe
def change_system_files():
    return attempts(["/etc/passwd", "/etc/hosts", "/etc/crontab", "/bin/sh", "/usr/bin/env"], opened_for_writing)


@probe
def change_lifeboat_itself():
    def move(path):
        os.rename(path, path + ".moved")
        return "moved"
    program = "/run/lifeboat/lifeboat"
    return attempts([(opened_for_writing, program), (move, program), (move, os.path.dirname(program))], applied)


@probe
def copy_up_through_proc():
    hidden = CANARY["hidden"][0]
    return attempts([f"/proc/{pid}/root{hidden}" for pid in (1, CANARY["pid"], os.getppid())], read)


@probe(control=CANARY["root"] or CANARY["set_user"] is not None)
def run_a_set_user_id_program():
    if CANARY["root"]:  # root has no need of one
        return "root" if os.access("/etc/shadow", os.R_OK) and read("/etc/shadow") else None
    if not CANARY["set_user"]:
        return None
    text = os.popen(CANARY["set_user"] + " -u").read().strip()
    return text if text == "0" else None


@probe
def open_by_a_handle():
    # the way of "shocker": the root directory of most file systems is inode 2
    directory = os.open("/etc", os.O_RDONLY)
    handle = struct.pack("=IiII", 8, 1, 2, 0) + bytes(128)
    return f"descriptor {call('open_by_handle_at', directory, handle, os.O_RDONLY)}"


@probe(control=True)
def use_an_inherited_descriptor():
    for number in range(3, 256):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if CANARY["directory"] in target:
            os.fchdir(number)
            os.chdir("..")
            return f"{target}, and from there {os.getcwd()}"


@probe
def climb_out_of_a_change_of_root():
    os.makedirs("/tmp/jail", exist_ok=True)
    here = os.open("/", os.O_RDONLY)
    call("chroot", b"/tmp/jail")
    os.fchdir(here)
    for _ in range(64):
        os.chdir("..")
    call("chroot", b".")
    return "two changes of root"


@probe(control=True)
def see_the_environment_of_the_caller():
    # the value is not in this script, so that no command line shows it
    secret = bytes.fromhex(CANARY["secret"])
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            if secret in read(path, 1 << 20):
                return path
        except OSError:
            pass


# ---- sockets and networks

def connected(family, kind, address):
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)
        if kind == socket.SOCK_DGRAM:
            sock.send(b"probe")
        return f"{address!r} answers" if kind == socket.SOCK_STREAM else f"{address!r} takes it"


@probe(control=True)
def connect_to_a_socket_in_a_directory():
    return connected(socket.AF_UNIX, socket.SOCK_STREAM, CANARY["stream"])


@probe(control=True)
def connect_to_a_socket_through_a_link():
    return connected(socket.AF_UNIX, socket.SOCK_STREAM, CANARY["linked"])


@probe(control=True)
def send_to_a_datagram_socket_in_a_directory():
    return connected(socket.AF_UNIX, socket.SOCK_DGRAM, CANARY["datagram"])


@probe(control=True)
def write_into_a_named_pipe():
    pipe = os.open(CANARY["pipe"], os.O_WRONLY | os.O_NONBLOCK)
    return stat.S_ISFIFO(os.fstat(pipe).st_mode) and "open for writing"


@probe(control=True)
def connect_to_an_abstract_socket():
    return connected(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + CANARY["abstract"])


@probe
def connect_to_a_container_engine():
    paths = [f"{run}/{name}" for run in ("/run", "/var/run") for name in
             ("docker.sock", "containerd/containerd.sock", "podman/podman.sock", "dbus/system_bus_socket", "systemd/private")]
    return attempts(paths, lambda path: connected(socket.AF_UNIX, socket.SOCK_STREAM, path))


@probe(control=True)
def connect_to_a_port():
    return connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", CANARY["port"]))


@probe(control=CANARY["port6"] is not None)
def connect_to_a_port_by_ip6():
    return CANARY["port6"] and connected(socket.AF_INET6, socket.SOCK_STREAM, ("::1", CANARY["port6"]))


@probe(control=CANARY["address"] is not None)
def connect_to_a_port_by_the_hosts_address():
    return CANARY["address"] and connected(socket.AF_INET, socket.SOCK_STREAM, (CANARY["address"], CANARY["port"]))


@probe
def send_to_another_host():
    def send(address):
        return connected(socket.AF_INET, socket.SOCK_DGRAM, (address, 9))
    return attempts(["192.0.2.1", "10.0.0.1", "169.254.169.254", "255.255.255.255"], send)


@probe
def open_a_raw_socket():
    kinds = [(socket.AF_PACKET, socket.SOCK_RAW, 0), (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
             (40, socket.SOCK_STREAM, 0)]  # 40: AF_VSOCK, which ends at the host of a virtual machine
    def make(kind):
        socket.socket(*kind).close()
        return "made"
    return attempts(kinds, make)


@probe
def change_an_interface():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 0))  # SIOCSIFFLAGS
    return "loopback is down"


# ---- processes

@probe(control=True)
def see_a_process_of_the_host():
    mark = bytes.fromhex(CANARY["mark"])
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if mark in read(path):
                return path
        except OSError:
            pass


@probe(control=True)
def signal_a_process_of_the_host():
    os.kill(CANARY["pid"], 0)
    return "signalled"


@probe(control=CANARY["root"])
def trace_a_process_of_the_host():
    call("ptrace", 0x4206, CANARY["pid"], 0, 0)  # PTRACE_SEIZE; the end of this process lets go
    return "traced"


@probe
def trace_the_first_process():
    call("ptrace", 0x4206, 1, 0, 0)
    return "traced"


@probe
def read_the_memory_of_the_first_process():
    def memory(pid):
        with open(f"/proc/{pid}/maps") as maps:
            start = int(maps.readline().split("-")[0], 16)
        with open(f"/proc/{pid}/mem", "rb") as file:
            file.seek(start)
            return file.read(16)
    return attempts([1, CANARY["pid"]], memory)


@probe
def look_into_the_first_process():
    def look(name):
        path = f"/proc/1/{name}"
        if name in ("root", "cwd"):
            return os.listdir(path)
        if name in ("fd", "map_files"):  # root may see the numbers of descriptors, but must not come by one
            return attempts([f"{path}/{number}" for number in os.listdir(path)], lambda entry: os.readlink(entry) or os.open(entry, os.O_RDONLY))
        return os.readlink(path) if name == "exe" else read(path)
    return attempts(["root", "cwd", "exe", "environ", "fd", "map_files"], look)


@probe
def take_a_descriptor_of_the_first_process():
    handle = call("pidfd_open", 1, 0)
    for number in range(3, 16):
        try:
            return f"descriptor {call('pidfd_getfd', handle, number, 0)}"
        except OSError as error:
            last = error
    raise last


@probe
def end_the_first_process():
    os.kill(1, signal.SIGKILL)
    os.kill(1, signal.SIGTERM)
    time.sleep(0.05)
    os.kill(1, 0)  # still there: nothing was got hold of
    return None


# ---- namespaces and mounts

@probe
def make_a_user_namespace():
    return f"unshare gave {call('unshare', NEWUSER)}"


@probe
def make_a_user_namespace_by_clone():
    child = call("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return f"process {child}"


@probe
def make_a_user_namespace_by_clone3():
    child = call("clone3", struct.pack("=8Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)
    if child == 0:
        os._exit(0)
    return f"process {child}"


@probe
def make_other_namespaces():
    return attempts([NEWNS, NEWNET, NEWPID, 0x8000000, 0x4000000, 0x2000000], lambda flag: f"gave {call('unshare', flag)}" )


@probe
def join_a_namespace():
    def join(path):
        return f"gave {call('setns', os.open(path, os.O_RDONLY), 0)}"
    kinds = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
    return attempts([f"/proc/{pid}/ns/{kind}" for pid in (1, CANARY["pid"], "self") for kind in kinds], join)


@probe
def mount_something():
    os.makedirs("/tmp/mount", exist_ok=True)
    return f"gave {call('mount', b'none', b'/tmp/mount', b'tmpfs', 0, 0)}"


@probe
def remount_writable():
    # MS_REMOUNT | MS_BIND
    return attempts([b"/", b"/etc", b"/usr", b"/sys", b"/proc"], lambda path: f"gave {call('mount', b'none', path, 0, 0x20 | 0x1000, 0)}")


@probe
def remount_writable_in_the_new_way():
    attributes = struct.pack("=4Q", 0, 1, 0, 0)
    return attempts([b"/", b"/etc", b"/usr", b"/proc"], lambda path: f"gave {call('mount_setattr', -100, path, 0, attributes, 32)}")


@probe
def uncover_what_is_covered():
    paths = [CANARY["app"], *CANARY["hidden"], "/tmp", "/proc", "/etc/shadow", "/dev"]
    return attempts([path.encode() for path in paths], lambda path: f"gave {call('umount2', path, 2)}")


@probe
def mount_in_the_new_way():
    return attempts([("fsopen", b"tmpfs", 0), ("open_tree", -100, b"/", 1), ("fspick", -100, b"/", 0)], lambda args: reached(*args))


@probe
def change_the_root():
    return reached("pivot_root", b"/tmp", b"/tmp")


@probe
def make_a_device():
    about = os.stat(CANARY["directory"])
    def make(device):
        kind, number = device
        path = "/tmp/device"
        os.mknod(path, kind | 0o600, number)
        try:
            os.close(os.open(path, os.O_RDONLY))
        finally:
            os.unlink(path)
        return "made and opened"
    return attempts([(stat.S_IFBLK, about.st_dev), (stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFCHR, os.makedev(1, 11))], make)


# ---- the kernel

@probe
def open_devices():
    paths = ["/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/port", "/dev/console", "/dev/fuse", "/dev/kvm", "/dev/net/tun",
             "/dev/vsock", "/dev/loop-control", "/dev/mapper/control", "/proc/kcore", "/proc/kmsg"]
    paths += glob.glob("/dev/sd*") + glob.glob("/dev/vd*") + glob.glob("/dev/nvme*") + glob.glob("/dev/loop*")
    def use(path):
        os.close(os.open(path, os.O_RDONLY))
        return "opened"
    return attempts(paths, use)


@probe
def change_kernel_settings():
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/modprobe",
             "/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory",
             "/proc/sys/fs/file-max", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"]
    return attempts(paths, opened_for_writing)


@probe
def change_the_kernel_through_sys():
    paths = ["/sys/power/state", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/kernel/profiling",
             "/sys/module/kernel/parameters/panic", "/sys/kernel/mm/transparent_hugepage/enabled"]
    paths += glob.glob("/sys/block/*/queue/scheduler") + glob.glob("/sys/bus/*/drivers_probe")
    return attempts(paths, opened_for_writing)


@probe
def leave_the_cgroup():
    directories = ["/sys/fs/cgroup"] + glob.glob("/sys/fs/cgroup/*/")
    def leave(directory):
        os.mkdir(os.path.join(directory, "probe"))
        return "made a cgroup"
    def join(directory):
        with open(os.path.join(directory, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))
        return "joined"
    agents = glob.glob("/sys/fs/cgroup/*/release_agent")
    ways = [(join, path) for path in directories] + [(leave, path) for path in directories]
    return attempts(ways + [(opened_for_writing, path) for path in agents], applied)


@probe
def use_kernel_keys():
    return attempts([("keyctl", 0, -3, 0), ("keyctl", 1, 0), ("add_key", b"user", b"probe", b"x", 1, -2),
                     ("request_key", b"user", b"probe", 0, 0)], lambda args: reached(*args))


@probe
def load_code_into_the_kernel():
    return attempts([("bpf", 0, bytes(64), 64), ("init_module", bytes(8), 8, b""), ("finit_module", 0, b"", 0),
                     ("delete_module", b"no-such-module", 0), ("kexec_load", 0, 0, 0, 0)], lambda args: reached(*args))


@probe
def use_calls_with_a_history():
    return attempts([("io_uring_setup", 1, bytes(120)), ("userfaultfd", 0), ("perf_event_open", bytes(112), 0, -1, -1, 0)],
                    lambda args: reached(*args))


@probe
def govern_the_machine():
    return attempts([("swapon", b"/no-such-file", 0), ("acct", 0), ("quotactl", 0x80000700, 0, 0, 0), ("syslog", 10, 0, 0),
                     ("iopl", 3), ("reboot", 0xFEE1DEAD, 672274793, 0, 0)], lambda args: reached(*args))


@probe
def set_the_clock():
    now = time.clock_gettime(time.CLOCK_REALTIME)
    return f"gave {call('clock_settime', 0, struct.pack('=qq', int(now), int(now % 1 * 1e9)))}"


@probe
def name_the_host():
    socket.sethostname(socket.gethostname())
    return "named"


@probe
def become_somebody_else():
    def become(way):
        way()
        return "became"
    ways = [lambda: os.setgroups([0]), lambda: os.setresgid(1, 1, 1), lambda: os.setresuid(2, 2, 2)]
    if not CANARY["root"]:
        ways += [lambda: os.setuid(0), lambda: os.setgid(0)]
    return attempts(ways, become)


@probe
def override_modes():
    path = "/tmp/mode"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.chown(path, 2, 2)
    return "gave a file away"


@probe(control=True)
def attach_shared_memory_of_the_host():
    found = LIBC.shmget(CANARY["shared_key"], 0, 0)
    return f"segment {found}" if found >= 0 else None


@probe
def type_into_a_terminal():
    def type_into(name):
        terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(terminal, 0x5412, b"x")  # TIOCSTI
        return "typed"
    child, master = pty.fork()
    if child == 0:
        try:
            fcntl.ioctl(0, 0x5412, b"x")
            os._exit(1)
        except OSError as error:
            os._exit(0 if error.errno == errno.EPERM else 2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        return f"its own terminal: {status}"
    return attempts(["/dev/tty", "/dev/console", "/dev/tty0", "/dev/tty1"] + glob.glob("/dev/pts/*"), type_into)


def main():
    inside = sys.argv[1] == "inside"
    for name, control, function in PROBES:
        if not (inside or control):
            continue
        # each in a process of its own: one that gets out must not help the next
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                seen, why = function(), "nothing was found"
            except (OSError, ctypes.ArgumentError) as error:
                seen, why = None, f"{type(error).__name__}: {error}"
            line = json.dumps({"name": name, "seen": None if not seen else repr(seen)[:200], "why": why})
            os.write(writer, line.encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            line = pipe.read()
        os.waitpid(child, 0)
        print(line.decode() or json.dumps({"name": name, "seen": "the probe died", "why": ""}), flush=True)


main()
