"""How many records a second ingest workers make durable, with 1 to 4 of them on one broker.

python benchmarks/ingest.py [--workers 1 2 4] [--records 20000] [--bytes 74] [--to FOLDER]

Starts a mosquitto and the workers, as processes, on loopback; a publisher sends the records and repeats those that were
not acknowledged. Printed is the time from the first record sent to the last acknowledgement, what each record costs on
disk, and the time from sending one to its acknowledgement in a second run at a tenth of that rate.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from intaglio.host import protocol
from intaglio.host.ingest.models import describe
from intaglio.host.protocol import CAPTURE_DATA, Op
from intaglio.host.schema import load_schema
from intaglio.host.tensors import TensorMeta

DEVICES = 500
PATIENCE = 30.0


class Publisher:
    """Sends records of many devices, at most `window` of them waiting, and repeats what is late."""

    def __init__(self, port: int, size: int, window: int) -> None:
        self._template = self._make_template(size)
        self._properties = self._make_properties(size)
        self._window = threading.Semaphore(window)
        self._sent: dict[tuple[str, int], float] = {}
        self.latencies: list[float] = []
        self.repeated = 0
        self._done = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.max_inflight_messages_set(1000)
        self.client.on_message = self._on_ack
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("intaglio/+/+/down/ack", qos=0)
        self.client.loop_start()

    def run(self, first: int, count: int, rate: float | None = None) -> float:
        """Send records `first` and on; seconds until all are acknowledged."""
        start = time.perf_counter()
        for n in range(first, first + count):
            if rate is not None and (ahead := start + (n - first) / rate - time.perf_counter()) > 0:
                time.sleep(ahead)
            while not self._window.acquire(timeout=PATIENCE):
                self._repeat()
            self._send(n)
        while self._sent:
            time.sleep(0.005)
            if time.perf_counter() - start > PATIENCE and min(self._sent.values(), default=start) < start + PATIENCE:
                self._repeat()
        return time.perf_counter() - start

    def _send(self, n: int) -> None:
        self._sent[self._key(n)] = time.perf_counter()
        topic = f"intaglio/bench/{n % DEVICES:016x}/up/record"
        self.client.publish(topic, self._template(n), qos=1, properties=self._properties)

    def _repeat(self) -> None:
        limit = time.perf_counter() - PATIENCE
        for (_, n), since in list(self._sent.items()):
            if since < limit:
                self.repeated += 1
                self._send(n)

    def _on_ack(self, _client: Any, _data: Any, message: Any) -> None:
        body = load_ack(message.payload)
        since = self._sent.pop((message.topic.split("/")[2], body), None)
        if since is not None:
            self.latencies.append(time.perf_counter() - since)
            self._window.release()

    @staticmethod
    def _key(n: int) -> tuple[str, int]:
        return f"{n % DEVICES:016x}", n

    @staticmethod
    def _make_template(size: int) -> Any:
        import cbor2

        keys = load_schema().keys
        rng = np.random.default_rng(1)
        pool = rng.integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()

        def make(n: int) -> bytes:
            data = pool[n * size % (len(pool) - size) :][:size]
            fields = {"boot": 1, "seq": n, "model": 0, "up": n * 1000, "cycles": 900_000, "total": size, "off": 0}
            body = cbor2.dumps({keys[name]: value for name, value in (fields | {"data": data}).items()})
            return protocol.pack(Op.READ_ANSWER, CAPTURE_DATA.group, n & 0xFF, CAPTURE_DATA.id, body)

        return make

    @staticmethod
    def _make_properties(size: int) -> Properties:
        tensors = (TensorMeta("x", "int8", (1, size - 10), 0x3B808081, -128, size - 10),)
        outputs = (TensorMeta("y", "int8", (1, 10), 0x3B800000, -128, 10),)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = [
            ("digest", "ab" * 32),
            ("wall", str(int(time.time() * 1_000_000))),
            ("model", describe("bench", tensors, outputs)),
        ]
        return properties


def load_ack(payload: bytes) -> int:
    """The sequence number of an acknowledgement."""
    import cbor2

    sequence: int = cbor2.loads(payload[protocol.HEADER.size :])[load_schema().keys["seq"]]
    return sequence


def measure(workers: int, records: int, size: int, folder: Path, batch: int) -> dict[str, Any]:
    """One run with so many workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
    )
    broker = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    place = folder / f"captures-{workers}"
    command = [sys.executable, "-m", "intaglio.host.cli", "ingest", "--broker", f"mqtt://127.0.0.1:{port}"]
    command += ["--to", str(place), "--batch", str(batch), "--period", "1"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    try:
        for worker in started:
            assert worker.stdout is not None
            worker.stdout.readline()
        publisher = Publisher(port, size, 4 * batch * workers)
        pids = {"worker": [worker.pid for worker in started], "broker": [broker.pid], "publisher": [os.getpid()]}
        before = {name: sum(map(cpu_seconds, members)) for name, members in pids.items()}
        seconds = publisher.run(0, records)
        spent = {name: sum(map(cpu_seconds, members)) - before[name] for name, members in pids.items()}
        rate = records / seconds
        publisher.latencies.clear()
        publisher.run(records, max(1000, records // 20), rate / 10)
        p50, p99 = np.percentile(publisher.latencies, [50, 99])
        files = list(place.rglob("part-*.parquet"))
        return {
            "workers": workers,
            "records_per_second": round(rate),
            "cpu_us_per_record": {name: round(value / records * 1e6) for name, value in spent.items()},
            "p50_s_at_a_tenth": round(float(p50), 2),
            "p99_s_at_a_tenth": round(float(p99), 2),
            "repeated": publisher.repeated,
            "bytes_per_record": round(sum(f.stat().st_size for f in files) / (records + max(1000, records // 20)), 1),
            "files": len(files),
        }
    finally:
        for worker in started:
            worker.terminate()
            worker.wait()
        broker.terminate()
        broker.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure ingest workers.")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--records", type=int, default=20000)
    parser.add_argument("--bytes", type=int, default=74, help="inputs and outputs of a record")
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--to", type=Path, help="folder to measure in; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.to) as folder:
        for workers in given.workers:
            print(json.dumps(measure(workers, given.records, given.bytes, Path(folder), given.batch)), flush=True)


if __name__ == "__main__":
    main()
