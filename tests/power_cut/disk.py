"""A disk that forgets: one file in a FUSE file system, for a loop device to stand on. What is written is kept in memory until the
device is flushed; at SIGUSR1 the power goes: a random part of what was not flushed reaches the file, and nothing later does.

usage: disk.py MOUNTPOINT FILE SEED"""

import os
import random
import signal
import stat
import struct
import subprocess
import sys

BLOCK = 4096
MAX_WRITE = 1 << 20
ROOT, DISK = 1, 2
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS = 1, 2, 3, 4, 14, 15, 16, 17
RELEASE, FSYNC, FLUSH, INIT, INTERRUPT, BATCH_FORGET = 18, 20, 25, 26, 36, 42
ENOENT, ENOSYS = 2, 38


class Disk:
    def __init__(self, path, seed):
        self.file = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.unflushed = {}
        self.random = random.Random(seed)
        self.powered = True

    def read(self, offset, size):
        out = bytearray()
        end = min(offset + size, self.size)
        for number in range(offset // BLOCK, (end + BLOCK - 1) // BLOCK):
            out += self.unflushed.get(number) or os.pread(self.file, BLOCK, number * BLOCK)
        start = offset % BLOCK
        return bytes(out[start:start + end - offset])

    def write(self, offset, data):
        at = 0
        while at < len(data):
            number, inside = divmod(offset + at, BLOCK)
            count = min(BLOCK - inside, len(data) - at)
            block = bytearray(self.read(number * BLOCK, BLOCK)) if count < BLOCK else bytearray(BLOCK)
            block[inside:inside + count] = data[at:at + count]
            self.unflushed[number] = bytes(block)
            at += count

    def flush(self):
        if self.powered:
            for number, block in self.unflushed.items():
                os.pwrite(self.file, block, number * BLOCK)
            self.unflushed = {}

    def cut(self, *_):
        if not self.powered:
            return
        self.powered = False
        share = self.random.random()
        for number, block in self.unflushed.items():
            if self.random.random() < share:
                os.pwrite(self.file, block, number * BLOCK)
        print("cut", len(self.unflushed), flush=True)


def attributes(node, disk):
    size, mode = (disk.size, stat.S_IFREG | 0o600) if node == DISK else (0, stat.S_IFDIR | 0o700)
    return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, BLOCK, 0)


def answer(disk, opcode, node, body):
    """The answer's bytes, or an errno."""
    if opcode == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, MAX_WRITE, 1 << 5 | 1 << 22, 16, 12, MAX_WRITE, 1, 256, 0, 0, *[0] * 7)
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"disk":
            return ENOENT
        return struct.pack("<4Q2I", DISK, 1, 3600, 3600, 0, 0) + attributes(DISK, disk)
    if opcode in (GETATTR, SETATTR):
        return struct.pack("<Q2I", 3600, 0, 0) + attributes(node, disk)
    if opcode == OPEN:
        direct_io = 1
        return struct.pack("<Q2I", 0, direct_io, 0)
    if opcode == READ:
        _, offset, size = struct.unpack_from("<2QI", body)
        return disk.read(offset, size)
    if opcode == WRITE:
        _, offset, size = struct.unpack_from("<2QI", body)
        disk.write(offset, body[40:40 + size])
        return struct.pack("<2I", size, 0)
    if opcode == FSYNC:
        disk.flush()
        return b""
    if opcode == STATFS:
        return struct.pack("<5Q4I6I", 0, 0, 0, 1, 1, BLOCK, 255, BLOCK, 0, *[0] * 6)
    if opcode in (RELEASE, FLUSH):
        return b""
    return ENOSYS


def main(mountpoint, path, seed):
    disk = Disk(path, int(seed))
    fuse = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(fuse, True)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,max_read={MAX_WRITE}"
    subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "disk", mountpoint], check=True, pass_fds=[fuse])
    signal.signal(signal.SIGUSR1, disk.cut)
    print("ready", flush=True)
    while True:
        try:
            request = os.read(fuse, MAX_WRITE + 65536)
        except OSError:
            return
        _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        result = answer(disk, opcode, node, request[40:])
        error, body = (-result, b"") if isinstance(result, int) else (0, result)
        try:
            os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except OSError:
            # The request was given up.
            pass


main(*sys.argv[1:])
