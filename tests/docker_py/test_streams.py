"""Exec, logs, attach sockets, stats, events, top."""

import concurrent.futures
import struct
import threading


def receive_exactly(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            break
        data += part
    return data


def frames(sock):
    """Demultiplexes an attach stream until it ends."""
    while len(header := receive_exactly(sock, 8)) == 8:
        stream, length = struct.unpack(">BxxxL", header)
        yield stream, receive_exactly(sock, length)


def test_exec_output_code_and_streams(run):
    container = run(["sleep", "1000"])
    result = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 7"], demux=True)
    assert result.exit_code == 7
    assert result.output == (b"out\n", b"err\n")


def test_exec_environment_user_workdir(run):
    container = run(["sleep", "1000"])
    result = container.exec_run(["sh", "-c", "echo $A $(id -u) $(pwd)"], environment={"A": "b"}, user="nobody", workdir="/tmp")
    assert result.output == b"b 65534 /tmp\n"


def test_exec_inspect_knows_the_code(client, run):
    container = run(["sleep", "1000"])
    exec_id = client.api.exec_create(container.id, ["sh", "-c", "exit 9"])["Id"]
    client.api.exec_start(exec_id)
    state = client.api.exec_inspect(exec_id)
    assert state["ExitCode"] == 9
    assert state["Running"] is False


def test_logs_follow_ends_with_the_container(run):
    container = run(["sh", "-c", "for i in 1 2 3; do echo line $i; done"])
    assert b"".join(container.logs(stream=True, follow=True)) == b"line 1\nline 2\nline 3\n"
    assert container.logs(tail=1) == b"line 3\n"
    assert container.logs(stdout=False, stderr=True) == b""
    stamped = container.logs(timestamps=True, tail=1).decode()
    assert stamped.split(" ", 1)[1] == "line 3\n"
    assert stamped[4] == "-" and stamped.split(" ")[0].endswith("Z")


def test_attach_socket_carries_input_and_output(client):
    container = client.api.create_container("busybox", ["cat"], stdin_open=True, host_config=client.api.create_host_config())
    try:
        wrapper = client.api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        sock = wrapper._sock
        sock.settimeout(30)
        client.api.start(container)
        sock.sendall(b"through the quay\n")
        header = receive_exactly(sock, 8)
        stream, length = struct.unpack(">BxxxL", header)
        assert (stream, receive_exactly(sock, length)) == (1, b"through the quay\n")
        client.api.kill(container)
        assert list(frames(sock)) == []
        wrapper.close()
    finally:
        client.api.remove_container(container, force=True)


def test_exec_socket_on_a_terminal(run, client):
    container = run(["sleep", "1000"])
    exec_id = client.api.exec_create(container.id, ["sh"], stdin=True, tty=True)["Id"]
    wrapper = client.api.exec_start(exec_id, tty=True, socket=True)
    sock = wrapper._sock
    sock.settimeout(30)
    client.api.exec_resize(exec_id, height=33, width=77)
    sock.sendall(b"stty size; exit\n")
    data = b""
    while part := sock.recv(4096):
        data += part
    assert b"33 77" in data
    wrapper.close()


def test_stats_one_shot_and_stream(run):
    container = run(["sleep", "1000"])
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["usage"] > 0
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] >= 0
    assert stats["pids_stats"]["current"] >= 1
    stream = container.stats(stream=True, decode=True)
    assert next(stream)["id"] == container.id
    stream.close()


def test_events_tell_the_story_of_a_container(client):
    seen = []
    events = client.events(decode=True, filters={"type": "container", "label": "story=1"})

    def listen():
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run("busybox", ["true"], labels={"story": "1"}, remove=True)
    listener.join(60)
    assert not listener.is_alive()
    assert [action for action in seen if action in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]


def test_top_lists_the_processes(run):
    container = run(["sleep", "1000"])
    top = container.top()
    assert "PID" in top["Titles"]
    assert any("sleep 1000" in " ".join(row) for row in top["Processes"])


def test_no_output_is_lost_when_many_threads_exec(run):
    container = run(["sleep", "1000"])

    def outputs(_):
        return [container.exec_run(["echo", "hello"]).output for _ in range(50)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outputs, range(4))) == [[b"hello\n"] * 50] * 4
