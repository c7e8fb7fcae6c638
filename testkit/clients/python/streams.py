"""The official client on a running pod: exec with input, output, errors and exit code, logs that are followed, port-forward."""

import os

from kubernetes import client, config
from kubernetes.stream import portforward, stream

NAMESPACE, POD = os.environ["NAMESPACE"], os.environ["POD"]
config.load_kube_config()
core = client.CoreV1Api()


def run(*command, **options):
    settings = {"stderr": True, "stdin": False, "stdout": True, "tty": False, **options}
    return stream(core.connect_get_namespaced_pod_exec, POD, NAMESPACE, command=list(command), **settings)


# Two streams have no order between them.
assert sorted(run("sh", "-c", "echo out; echo err >&2").split()) == ["err", "out"]

process = run("sh", "-c", "read line; echo got $line; exit 3", stdin=True, _preload_content=False)
process.write_stdin("hello\n")
process.run_forever(timeout=60)
assert process.read_stdout().strip() == "got hello"
assert process.returncode == 3, process.returncode

# More than any buffer holds, both ways at once.
process = run("sh", "-c", "head -c 3000000 | wc -c; head -c 3000000 /dev/zero | tr '\\0' x", stdin=True, _preload_content=False)
for _ in range(30):
    process.write_stdin("y" * 100000)
process.run_forever(timeout=120)
count, rest = process.read_stdout().split("\n", 1)
assert (count.strip(), len(rest)) == ("3000000", 3000000), (count, len(rest))
assert process.returncode == 0

try:
    run("true", container="none")
    raise AssertionError("a container that is not there was entered")
except client.ApiException as error:
    assert "container none is not valid for pod" in str(error), error

forwarded = portforward(core.connect_get_namespaced_pod_portforward, POD, NAMESPACE, ports="8080")
socket = forwarded.socket(8080)
socket.setblocking(True)
socket.sendall(b"GET /index.html HTTP/1.0\r\nHost: pod\r\n\r\n")
answer = b""
while True:
    data = socket.recv(65536)
    if not data:
        break
    answer += data
socket.close()
assert b"200 OK" in answer and b"served by busybox" in answer, answer
assert forwarded.error(8080) is None, forwarded.error(8080)

log = core.read_namespaced_pod_log(POD, NAMESPACE, tail_lines=1)
assert log.endswith("\n"), log
followed = core.read_namespaced_pod_log(POD, NAMESPACE, follow=True, _preload_content=False)
assert next(iter(followed)), "a followed log gives what is there"
followed.close()
