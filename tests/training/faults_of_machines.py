"""Faults that only root can make: `python faults_of_machines.py network|disk FOLDER`.

network: two hosts (network namespaces with a cable between them), each with a rank under a torchrun of its own; the
         cable is cut in the middle of the training.
disk:    two ranks write to a disk (tmpfs) on which there is room for the shard of one of them.

Both ranks must end within a minute and say why; with the fault repaired, the run must go on, to the bits of a run that
met none. Where this is not root, or `ip` is missing, it says so and does nothing.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = """
--data.image.height 28 --data.image.width 23 --backbone.height 28 --backbone.input-width 23 --backbone.width 4
--backbone.embedding-dim 16 --batch-size 60 --epochs 20 --checkpoint-every 20 --log-every 1000 --resume
"""
SAVED, STEPS = "step-000000040", 100
HOSTS = ("qmargin-a", "qmargin-b")
CABLE = "qmargin"
AT_MOST = 60.0  # seconds


def shell(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


def torchrun(out: Path, *more: str) -> list[str]:
    training = ["-m", "qmargin", "train", "faces-orl", "--out", str(out), *SETTINGS.split()]
    return [sys.executable, "-m", "torch.distributed.run", *more, *training]


def started(command: list[str], errors: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": CABLE} if command[0] == "ip" else dict(os.environ)
    with errors.open("ab") as file:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=environment)


def ranks_of(agents: "list[subprocess.Popen[bytes]]") -> list[int]:
    """The processes that train: children of the agents, which may be children of `ip netns exec`."""
    found = []
    for agent in agents:
        try:
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        except FileNotFoundError:
            continue
        found += [int(child) for child in children if b"qmargin" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return found


def wait_for(what: Callable[[], bool], seconds: float) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


def ended(pids: list[int]) -> bool:
    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
        except (FileNotFoundError, ProcessLookupError):
            return True

    return all(map(gone, pids))


def to_the_end(agents: "list[subprocess.Popen[bytes]]") -> None:
    try:
        for agent in agents:
            if agent.wait(300) != 0:
                raise RuntimeError(f"{agent.args!r} ended with {agent.returncode}")
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()


def fail(agents: "list[subprocess.Popen[bytes]]", out: Path, break_it: Callable[[], None]) -> None:
    """Break it after the second checkpoint; print when the ranks ended and what they said."""
    try:
        wait_for((out / "shards" / SAVED).exists, 200.0)
        ranks = ranks_of(agents)
        break_it()
        print(f"all {len(ranks)} ranks ended {wait_for(lambda: ended(ranks), AT_MOST):.1f} s after it")
    finally:
        for agent in agents:
            agent.send_signal(signal.SIGTERM)
        for agent in agents:
            agent.wait(AT_MOST)
    for errors in sorted(out.parent.glob("*.err")):
        print(*(line for line in errors.read_text().splitlines() if "error: " in line and "rank " in line), sep="\n")
    print("left: " + ", ".join(sorted(path.name for path in (out / "shards").iterdir())))


def compare(out: Path, whole: Path) -> None:
    same = (out / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    print(f"resumed to step {STEPS}: {'the same bits' if same else 'OTHER BITS'}")
    if not same:
        sys.exit(1)


# --- network ---------------------------------------------------------------------------------------------------------


@contextmanager
def two_hosts() -> Iterator[None]:
    for host in HOSTS:
        shell("ip", "netns", "add", host)
    try:
        shell("ip", "link", "add", CABLE, "netns", HOSTS[0], "type", "veth", "peer", "name", CABLE, "netns", HOSTS[1])
        for number, host in enumerate(HOSTS, start=1):
            shell("ip", "-n", host, "addr", "add", f"10.231.0.{number}/24", "dev", CABLE)
            for device in ("lo", CABLE):
                shell("ip", "-n", host, "link", "set", device, "up")
        yield
    finally:
        for host in HOSTS:
            shell("ip", "netns", "del", host)


def on_hosts(out: Path) -> "list[subprocess.Popen[bytes]]":
    meeting = "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id cut --rdzv-endpoint 10.231.0.1:29500"
    agents = []
    for number, host in enumerate(HOSTS, start=1):
        own = ["--local-addr", f"10.231.0.{number}", "--rdzv-conf", f"is_host={int(number == 1)}"]
        command = torchrun(out, *meeting.split(), *own)
        agents.append(started(["ip", "netns", "exec", host, *command], out.parent / f"{host}.err"))
    return agents


def network(folder: Path) -> None:
    with two_hosts():
        whole = folder / "whole" / "run"
        whole.parent.mkdir()
        to_the_end(on_hosts(whole))
        out = folder / "cut" / "run"
        out.parent.mkdir()
        fail(on_hosts(out), out, lambda: shell("ip", "-n", HOSTS[0], "link", "set", CABLE, "down"))
        shell("ip", "-n", HOSTS[0], "link", "set", CABLE, "up")
        to_the_end(on_hosts(out))
        compare(out, whole)


# --- disk ------------------------------------------------------------------------------------------------------------


def on_one_host(out: Path) -> "list[subprocess.Popen[bytes]]":
    return [started(torchrun(out, "--standalone", "--nproc-per-node", "2"), out.parent / "ranks.err")]


def disk(folder: Path) -> None:
    whole, out = folder / "whole", folder / "full" / "run"
    to_the_end(on_one_host(whole))
    out.mkdir(parents=True)
    shell("mount", "-t", "tmpfs", "-o", "size=32m", "qmargin", out)
    try:
        ballast = out / "ballast"

        def fill() -> None:
            room = shutil.disk_usage(out).free
            with ballast.open("wb") as file:
                file.write(bytes(room - os.sysconf("SC_PAGE_SIZE")))  # one shard of this network fits into a page

        fail(on_one_host(out), out, fill)
        ballast.unlink()
        to_the_end(on_one_host(out))
        compare(out, whole)
    finally:
        shell("umount", out)


FAULTS: dict[str, Callable[[Path], None]] = {"network": network, "disk": disk}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        sys.exit("skipped: network namespaces and mounts need root and the command `ip`")
    arguments.folder.mkdir(parents=True)
    FAULTS[arguments.fault](arguments.folder.resolve())


if __name__ == "__main__":
    main()
